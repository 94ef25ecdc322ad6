"""What workers have counted, as commands, the admin and metrics show it."""

from __future__ import annotations

from typing import NamedTuple

from django.db import connections

from pgpubsub_sql.sql import query


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


def totals(using: str) -> list[Total]:
    """Return the totals of all listeners."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("totals"))
        return [Total(*row) for row in cursor.fetchall()]


def rates(using: str) -> dict[str, Rate]:
    """Return the rates of the last five minutes by channel; none without table or privilege."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("may_see_counters"))
        if not cursor.fetchone()[0]:
            return {}
        cursor.execute(query("rates"))
        return {channel: Rate(*numbers) for channel, *numbers in cursor.fetchall()}
