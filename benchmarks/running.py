"""Goals, runs and what becomes of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Name = TypeVar("Name")
Run = TypeVar("Run")

Figures = dict[str, list[float]]
"""The figure of each run of each contestant. Runs of the same round have the same index."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One part of a goal, and whether it is met."""

    what: str
    value: float
    bound: float
    at_least: bool = True
    """False: *value* has to be at most *bound*."""
    unit: str = "x"

    @property
    def is_met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures of one kind."""

    title: str
    unit: str
    figures: Figures
    best_is_high: bool = True
    ours: tuple[str, ...] = ()
    """Names of our contestants."""
    peers: tuple[str, ...] = ()
    """Names of the peers."""
    limit: str | None = None
    """Name of the raw limit."""
    series: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """For a plot of lines: the contestant at each x, by the name of the line."""
    x_label: str = ""

    def best_peer(self) -> str | None:
        """Return the name of the best peer."""
        choose = max if self.best_is_high else min
        return choose(self.peers, key=lambda name: median(self.figures[name]), default=None)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a goal has found."""

    tables: list[Table]
    verdicts: list[Verdict]
    notes: list[str] = field(default_factory=list)


def interleave(cases: Mapping[Name, Callable[[], Run]], runs: int) -> dict[Name, list[Run]]:
    """Run all cases in turn, *runs* times. Each round begins with another case."""
    found: dict[Name, list[Run]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(runs):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(cases[name]())
    return found


def ratio(figures: Figures, one: str, other: str) -> float:
    """Return the median of the ratios of paired runs."""
    pairs = zip(figures[one], figures[other], strict=True)
    return median([above / below if below else float("inf") for above, below in pairs])


def flatness(figures: Figures, names: Iterable[str]) -> float:
    """Return by how much the slowest median is below the quickest, as a share of it."""
    medians = [median(figures[name]) for name in names]
    return 1 - min(medians) / max(medians)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)
