"""How cost grows: with workers, channels, payloads, idle listeners, and the rate of messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from benchmarks.children import Child, check_counts, check_numbers
from benchmarks.goals.receiving import events
from benchmarks.goals.writing import (
    INSERT,
    TRUNCATE,
    catch_up,
    copy,
    listening,
    notify_always,
)
from benchmarks.running import Outcome, Table, interleave, percentile
from benchmarks.stage import HERE, WARM_UP, Stage
from benchmarks.writing import write

LARGEST_BACKLOG = 50_000_000
"""Bytes of payload that are stored at most."""
WRITERS = 4


def workers(stage: Stage) -> Outcome:
    """Drain one backlog by several processes."""
    counts, backlog = stage.sizes.processes, stage.sizes.backlog
    database = copy(stage)
    with ExitStack() as stack:
        children = [stack.enter_context(stage.start(HERE, database)) for _ in range(max(counts))]
        runs = {n: partial(_drain_by_several, children[:n], backlog) for n in counts}
        return _lines({"ours": runs}, stage, "Draining by several processes", "processes")


def _drain_by_several(children: list[Child], count: int) -> float:
    """Return how many messages a second *children* handle together."""
    children[0].ask("store", workload="noop", count=count)
    for child in children:
        child.ask("open", workload="noop")
    started = time.perf_counter()
    for child in children:
        child.begin("share", workload="noop")
    answers = [child.answer() for child in children]
    check_numbers([n for answer in answers for n in answer["numbers"]], range(1, count + 1))
    return count / (max(float(answer["ended"]) for answer in answers) - started)


def payloads(stage: Stage) -> Outcome:
    """Drain messages of several sizes."""

    def run(size: int) -> float:
        count = max(WARM_UP, min(stage.sizes.backlog, LARGEST_BACKLOG // size))
        report = stage.child(HERE).ask("drain", workload="large", count=count, size=size)
        check_counts(report, count)
        return count / float(report["seconds"])

    runs = {size: partial(run, size) for size in stage.sizes.payloads}
    return _lines({"ours": runs}, stage, "Draining payloads of several sizes", "bytes")


def spread(stage: Stage) -> Outcome:
    """Drain one backlog that is spread over several channels."""
    backlog, database = stage.sizes.backlog, copy(stage)

    def run(child: Child) -> float:
        report = child.ask("drain", workload="spread", count=backlog)
        check_counts(report, backlog)
        return backlog / float(report["seconds"])

    with ExitStack() as stack:
        runs = {}
        for count in stage.sizes.spread:
            child = stage.start(HERE, database, BENCHMARK_CHANNELS=str(count))
            runs[count] = partial(run, stack.enter_context(child))
        return _lines({"ours": runs}, stage, "Draining several channels", "channels")


def listeners(stage: Stage) -> Outcome:
    """Count the commits a second beside sessions that only listen to another channel."""
    databases = {"ours": copy(stage), "NOTIFY always": notify_always(stage)}

    def run(database: str, count: int) -> float:
        stage.execute(database, TRUNCATE)
        with listening(stage, database, "typed") as (child,), _idle(stage, database, count):
            seconds = stage.sizes.writing_seconds
            written = write(stage, database, INSERT, writers=WRITERS, seconds=seconds)
            catch_up(stage, database)
            check_numbers(child.stop_listening()["numbers"], range(1, written.transactions + 1))
        return written.per_second

    lines = {
        line: {count: partial(run, database, count) for count in stage.sizes.listeners}
        for line, database in databases.items()
    }
    return _lines(lines, stage, "One-row commits beside idle listeners", "listeners", "commits/s")


@contextmanager
def _idle(stage: Stage, database: str, count: int) -> Iterator[None]:
    """Have so many sessions listen that nobody notifies."""
    with ExitStack() as stack:
        for _ in range(count):
            session = stack.enter_context(closing(stage.connect(database)))
            session.cursor().execute("LISTEN nothing")
        yield


def rates(stage: Stage) -> Outcome:
    """Write at several rates; take the time from the statement to the listener."""
    database, seconds = copy(stage), stage.sizes.load_seconds

    def run(rate: int) -> list[float]:
        _, lags = events(stage, database, seconds, rate)
        return [lag * 1000 for lag in lags]

    names = {rate: f"{rate:,} a second" for rate in stage.sizes.rates}
    found = interleave({names[r]: partial(run, r) for r in names}, stage.sizes.runs)
    tables = [
        Table(
            title=f"Latency at several rates, {title}",
            unit="ms",
            figures={name: [percentile(one, share) for one in of] for name, of in found.items()},
            best_is_high=False,
            ours=tuple(found),
            series={"ours": names},
            x_label="messages a second",
        )
        for title, share in (("p50", 0.5), ("p99", 0.99))
    ]
    return Outcome(tables=tables, verdicts=[])


def _lines(
    lines: Mapping[str, Mapping[int, Callable[[], float]]],
    stage: Stage,
    title: str,
    x_label: str,
    unit: str = "messages/s",
) -> Outcome:
    """Return what these runs find, to be plotted as lines: a run for each x of each line."""
    series = {line: {x: f"{line}, {x_label}: {x:,}" for x in runs} for line, runs in lines.items()}
    figures = interleave(
        {series[line][x]: run for line, runs in lines.items() for x, run in runs.items()},
        stage.sizes.runs,
    )
    table = Table(
        title=title,
        unit=unit,
        figures=figures,
        ours=tuple(series["ours"].values()),
        series=series,
        x_label=x_label,
    )
    return Outcome(tables=[table], verdicts=[])
