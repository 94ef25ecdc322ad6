"""What workers have counted, as commands, the admin and metrics show it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from django.db import connections

from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane

MINUTES = 30
"""For so many minutes it is shown what listeners did."""
RATE_MINUTES = 5
"""Rates are averages over so many."""


class Total(NamedTuple):
    """What has become of the messages of a listener, since the first was counted."""

    channel: str
    subscription: str
    listener: str
    """Its dotted path; empty for messages that reached none."""
    handled: int
    failed: int
    parked: int
    discarded: int
    expired: int
    seconds: float


class Rate(NamedTuple):
    """What listeners of a channel do a minute."""

    handled: float
    failed: float
    """Those that were parked included."""


@dataclasses.dataclass(kw_only=True)
class Minutes:
    """What a listener did in each of the last minutes, the present one last."""

    channel: str
    subscription: str
    listener: str
    """Its dotted path; empty for messages that reached none."""
    length: float
    """Of the last :data:`RATE_MINUTES`, in minutes: the present one is not over."""
    handled: list[int] = dataclasses.field(default_factory=lambda: [0] * MINUTES)
    failed: list[int] = dataclasses.field(default_factory=lambda: [0] * MINUTES)
    """Those that were parked included."""
    seconds: list[float] = dataclasses.field(default_factory=lambda: [0.0] * MINUTES)

    @property
    def rate(self) -> Rate:
        """What it does a minute."""
        handled, failed = (sum(one[-RATE_MINUTES:]) for one in (self.handled, self.failed))
        return Rate(handled / self.length, failed / self.length)

    @property
    def seconds_each(self) -> float | None:
        """How many seconds it takes for a message; None if it had none."""
        messages = sum(self.handled) + sum(self.failed)
        return sum(self.seconds) / messages if messages else None


def totals(using: str) -> list[Total]:
    """Return the totals of all listeners."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("totals"))
        return [Total(*row) for row in cursor.fetchall()]


def rates(using: str) -> dict[Lane, Rate]:
    """Return the rates of the last five minutes; none without table or privilege."""
    rows = _seen(using, "rates")
    return {Lane(channel, name): Rate(*numbers) for channel, name, *numbers in rows}


def minutes(using: str) -> list[Minutes]:
    """Return what listeners did lately; none without table or privilege."""
    found: dict[tuple[str, ...], Minutes] = {}
    for channel, subscription, listener, ago, handled, failed, seconds, length in _seen(
        using, "minutes"
    ):
        key = channel, subscription, listener
        if key not in found:
            found[key] = Minutes(
                channel=channel, subscription=subscription, listener=listener, length=length
            )
        place = MINUTES - 1 - ago
        one = found[key]
        one.handled[place], one.failed[place], one.seconds[place] = handled, failed, seconds
    return list(found.values())


def _seen(using: str, name: str) -> list[Any]:
    with connections[using].cursor() as cursor:
        cursor.execute(query("may_see_counters"))
        if not cursor.fetchone()[0]:
            return []
        cursor.execute(query(name))
        return list(cursor.fetchall())
