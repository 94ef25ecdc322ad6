"""Triggers that logical replication does not fire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.migrations_ops.problems import Problem
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.trigger import Trigger


class _Trigger(NamedTuple):
    """A trigger on a table that a subscription fills: a row of ``replicated.sql``."""

    function: str
    table: str
    name: str
    can_fire: bool
    is_enabled: bool


def replication_problems(
    connection: BaseDatabaseWrapper, triggers: Iterable[Trigger]
) -> Iterator[Problem]:
    """Yield the channels among *triggers* that do not fire for what a subscription writes."""
    channels = {trigger.function: trigger.channel for trigger in triggers}
    with connection.cursor() as cursor:
        cursor.execute(query("replicated"), {"functions": list(channels)})
        rows = [_Trigger(*row) for row in cursor.fetchall()]
    for (function, table), group in groupby(rows, lambda row: row[:2]):
        yield from _problems_of(channels[function], table, list(group))


def _problems_of(channel: str, table: str, triggers: list[_Trigger]) -> Iterator[Problem]:
    writes = f"rows that logical replication writes to {table}"
    if not all(trigger.can_fire for trigger in triggers):
        yield Problem(
            channel,
            f"sends nothing for {writes}, because its triggers fire by statement and replication "
            "writes single rows",
            'If it should, set level = "row" on the channel. Run: python manage.py makemigrations, '
            "and then: python manage.py migrate",
        )
    elif idle := [trigger.name for trigger in triggers if not trigger.is_enabled]:
        enable = ", ".join(f"ENABLE ALWAYS TRIGGER {name}" for name in idle)
        yield Problem(
            channel,
            f"sends nothing for {writes}, because its triggers are not enabled for replication",
            f"If it should, execute: ALTER TABLE {table} {enable}",
        )
