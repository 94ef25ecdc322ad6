"""The benchmarks run, and find out what was lost or handled twice. How fast, no test says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.children import ChildFailed, Miscounted, check_counts, check_numbers
from benchmarks.goals import GOALS
from benchmarks.plots import plot
from benchmarks.running import Table, Verdict, interleave, ratio
from benchmarks.sizes import SMOKE
from benchmarks.stage import HERE, RAW, Stage
from pgpubsub_sql.embedded import Server

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stage(server: Server) -> Iterator[Stage]:
    """A stage without peers."""
    with Stage(server, SMOKE, peers=False) as stage:
        yield stage


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
def test_our_side_of_each_goal_can_be_measured(stage: Stage, goal: Any) -> None:
    outcome = goal.measure(stage)
    assert outcome.tables
    for table in outcome.tables:
        assert set(table.ours) <= set(table.figures)
        most = 100 if table.unit == "% of the time" else math.inf
        assert all(0 <= figure <= most for runs in table.figures.values() for figure in runs)
        assert plot(table).startswith("<svg")


def test_command_writes_what_it_found(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["inserts", "--scale", "smoke", "--no-peers", "--runs", "2", "--out", str(tmp_path)]
    main(arguments, server)
    (table,) = json.loads((tmp_path / "inserts.json").read_text())["tables"]
    assert all(len(runs) == 2 for runs in table["figures"].values())
    assert "fdatasync" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "inserts-1.svg").exists()
    assert "plain loop" in capsys.readouterr().out


class Doctored:
    """A child that reports other counts than are true."""

    def __init__(self, **counts: int) -> None:
        self.counts = counts

    def ask(self, do: str, *, workload: str, count: int) -> dict[str, Any]:
        return {"seconds": 1.0, "handled": count, "distinct": count, "left": 0} | self.counts


@pytest.mark.parametrize(
    "counts", [{"handled": 49}, {"handled": 51}, {"distinct": 49}, {"left": 1}, {"written": 49}]
)
def test_doctored_count_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]
) -> None:
    monkeypatch.setattr(stage, "child", lambda who: Doctored(**counts))
    with pytest.raises(Miscounted):
        stage.drain(HERE, "noop", 50)()


@pytest.mark.parametrize("numbers", [[1, 2], [1, 2, 2], [1, 2, 3, 3], [1, 2, 4]])
def test_numbers_that_were_lost_doubled_or_never_sent_are_refused(numbers: list[int]) -> None:
    check_numbers([3, 1, 2], range(1, 4))
    with pytest.raises(Miscounted):
        check_numbers(numbers, range(1, 4))


def test_honest_count_is_accepted() -> None:
    check_counts({"handled": 3, "distinct": 3, "left": 0, "seconds": 1.0}, 3)


def test_error_of_a_program_is_raised_here(stage: Stage) -> None:
    with pytest.raises(ChildFailed, match="NotImplementedError"):
        stage.child(RAW).ask("written")


def test_each_round_begins_with_another_contestant() -> None:
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return 1.0

    interleave({name: lambda name=name: run(name) for name in "abc"}, 3)
    assert "".join(order) == "abcbcacab"


def test_ratio_is_of_paired_runs() -> None:
    assert ratio({"one": [10.0, 40.0, 9.0], "other": [5.0, 20.0, 1.0]}, "one", "other") == 2.0


def test_what_falls_short_is_not_met() -> None:
    assert not Verdict(what="share", value=0.4, bound=0.5).is_met
    assert not Verdict(what="tail", value=26.0, bound=25.0, at_least=False).is_met
    assert Verdict(what="share", value=0.5, bound=0.5).is_met


def test_best_peer_is_neither_ours_nor_the_limit() -> None:
    figures = {"raw": [9.0], "ours": [8.0], "one": [1.0, 3.0, 2.0], "other": [1.5]}
    table = Table(
        title="", unit="", figures=figures, ours=("ours",), peers=("one", "other"), limit="raw"
    )
    assert table.best_peer() == "one"
