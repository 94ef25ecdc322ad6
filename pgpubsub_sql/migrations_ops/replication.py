"""The system check of triggers that logical replication does not fire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from django.core import checks
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.migrations_ops.problems import Problem
from pgpubsub_sql.migrations_ops.state import declared
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.trigger import Trigger


class _Trigger(NamedTuple):
    """A trigger on a table that a subscription fills, in the order of ``replicated.sql``."""

    function: str
    table: str
    name: str
    can_fire: bool
    is_enabled: bool


def check_replicated(databases: Iterable[str] | None = None, **kwargs: Any) -> list[Any]:
    """W204: are channels told what logical replication brings?"""
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor == "postgresql":
            found += [
                checks.Warning(
                    f"In the database {alias!r} the channel {channel} {text}.",
                    hint=remedy,
                    id="pgpubsub_sql.W204",
                )
                for channel, text, remedy in _found(connection)
            ]
    return found


def untold(connection: BaseDatabaseWrapper, triggers: Iterable[Trigger]) -> Iterator[Problem]:
    """Yield the channels among *triggers* that are not told what a subscription brings."""
    channels = {trigger.function: trigger.channel for trigger in triggers}
    with connection.cursor() as cursor:
        cursor.execute(query("replicated"), {"functions": list(channels)})
        rows = [_Trigger(*row) for row in cursor.fetchall()]
    for (function, table), group in groupby(rows, lambda row: row[:2]):
        yield from _untold(channels[function], table, list(group))


def _untold(channel: str, table: str, triggers: list[_Trigger]) -> Iterator[Problem]:
    brought = f"what logical replication brings to {table}"
    if not all(trigger.can_fire for trigger in triggers):
        yield Problem(
            channel,
            f"is not told {brought}, as its triggers fire by statement, and replication writes "
            "single rows",
            'If it should be, set level = "row" on the channel. Run: python manage.py '
            "makemigrations, and then: python manage.py migrate",
        )
    elif idle := [trigger.name for trigger in triggers if not trigger.is_enabled]:
        enable = ", ".join(f"ENABLE ALWAYS TRIGGER {name}" for name in idle)
        yield Problem(
            channel,
            f"is not told {brought}, as its triggers are not enabled for that",
            f"If it should be, execute: ALTER TABLE {table} {enable}",
        )


def _found(connection: BaseDatabaseWrapper) -> list[Problem]:
    try:
        return list(untold(connection, declared().values()))
    except (AttributeError, DatabaseError, LookupError, ValueError):
        return []  # other checks say what is wrong with a channel, or the database
