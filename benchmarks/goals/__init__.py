"""What is measured: one function a goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.goals import (
    draining,
    keeping,
    options,
    receiving,
    relaying,
    scaling,
    subscribing,
    working,
    writing,
)
from benchmarks.running import Outcome
from benchmarks.stage import Stage


@dataclass(frozen=True)
class Goal:
    """A name on the command line, and the function that measures it.

    Without a number it is no goal, but a measurement that design decisions rest on.
    """

    number: int | None
    name: str
    measure: Callable[[Stage], Outcome]

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (self.measure.__doc__ or "").partition("\n")[0]

    @property
    def label(self) -> str:
        """Name and description."""
        return f"{self.name}: {self.description}"

    @property
    def heading(self) -> str:
        """A title."""
        return f"{self.number}. {self.label}" if self.number else self.label


GOALS = {
    goal.name: goal
    for goal in (
        Goal(1, "drain", draining.drain),
        Goal(2, "backlogs", draining.backlogs),
        Goal(3, "inserts", draining.inserts),
        Goal(4, "writers", writing.writers),
        Goal(5, "statements", writing.statements),
        Goal(6, "latency", receiving.latency),
        Goal(7, "load", receiving.load),
        Goal(8, "ephemeral", receiving.ephemeral),
        Goal(9, "held", working.held),
        Goal(10, "idle", working.idle),
        Goal(11, "memory", working.memory),
        Goal(12, "endurance", working.endurance),
        Goal(13, "channels", working.channels),
        Goal(14, "relay", relaying.relay),
        Goal(15, "subscriptions", subscribing.subscribing),
        Goal(16, "history", keeping.keeping),
        Goal(None, "watched", options.watched),
        Goal(None, "options", options.options),
        Goal(None, "workers", scaling.workers),
        Goal(None, "payloads", scaling.payloads),
        Goal(None, "spread", scaling.spread),
        Goal(None, "listeners", scaling.listeners),
        Goal(None, "rates", scaling.rates),
    )
}
