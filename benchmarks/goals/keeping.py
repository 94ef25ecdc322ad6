"""Goal 16: what it costs to keep what is handled.

What counts is the processor time of the worker and its server process together, which other
processes change less than the rate. Many small backlogs take turns.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.children import check_counts
from benchmarks.running import Outcome, Table, Verdict, interleave, ratio
from benchmarks.stage import HERE, WARM_UP, Stage

WORKLOADS = {"without keep": "typed", "with keep": "kept"}
PARTS = 5
"""Each backlog is a fifth of the usual one."""
ROUNDS = 16
"""Backlogs for each run. Pairs differ by more than the goal; the median of 80 by 3 to 4 %."""


def keeping(stage: Stage) -> Outcome:
    """Drain messages that become instances, of a channel with `keep` and of one without."""
    count = max(1, stage.sizes.backlog // PARTS)
    runs = {name: _run(stage, workload, count) for name, workload in WORKLOADS.items()}
    figures = interleave(runs, stage.sizes.runs * ROUNDS)
    table = Table(
        title=f"Draining {count:,} messages",
        unit="µs of processor time a message",
        figures=figures,
        best_is_high=False,
        ours=tuple(figures),
    )
    verdict = Verdict(
        what="cost of keeping, as a share of the drain",
        value=ratio(figures, "with keep", "without keep") - 1,
        bound=0.15,
        at_least=False,
        unit="",
    )
    return Outcome(tables=[table], verdicts=[verdict])


def _run(stage: Stage, workload: str, count: int) -> Callable[[], float]:
    child = stage.child(HERE)
    child.ask("drain", workload=workload, count=WARM_UP)

    def run() -> float:
        report = child.ask("drain", workload=workload, count=count)
        check_counts(report, count)
        return float(report["worked"]) / count * 1e6

    return run
