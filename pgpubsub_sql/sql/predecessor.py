"""What django-pgpubsub has left in a database, and the names that it gave to channels."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql.templates import part, query, render

TABLE = "pgpubsub_notification"


class OldMessages(NamedTuple):
    """What is stored under one name."""

    name: str
    number: int
    oldest: datetime | None
    """None if django-pgpubsub was older than 1.1 when it stored them."""


class OldTrigger(NamedTuple):
    """A trigger that sends in the old way."""

    channel: str
    """The channel's old name, such as ``pgpubsub_d5f69``."""
    name: str
    table: str
    """Its table, quoted."""
    is_durable: bool
    """Whether it stores messages in the old table."""


def old_name(path: str) -> str:
    """Return the name in PostgreSQL that django-pgpubsub gave to the channel at *path*."""
    return f"pgpubsub_{hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()[:5]}"


def has_old_table(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the old table is on the search_path."""
    with connection.cursor() as cursor:
        cursor.execute(query("old_table"))
        return bool(cursor.fetchone()[0])


def may_read_old_table(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the old table is there, and the role of *connection* may read it."""
    with connection.cursor() as cursor:
        cursor.execute(query("old_table"))
        return bool(cursor.fetchone()[1])


def old_messages(connection: BaseDatabaseWrapper) -> list[OldMessages]:
    """Return what is stored in the old table, which must exist, by name."""
    with connection.cursor() as cursor:
        cursor.execute(query("old_stored"))
        return [OldMessages(*row) for row in cursor.fetchall()]


def old_triggers(connection: BaseDatabaseWrapper) -> list[OldTrigger]:
    """Return the old triggers on tables of the search_path."""
    with connection.cursor() as cursor:
        cursor.execute(render("queries/old_triggers", is_old=part("queries/is_old")))
        return [OldTrigger(*row) for row in cursor.fetchall()]


def old_functions(connection: BaseDatabaseWrapper) -> list[tuple[str, str]]:
    """Return schema and name of the old trigger functions that no trigger calls."""
    with connection.cursor() as cursor:
        cursor.execute(render("queries/old_functions", is_old=part("queries/is_old")))
        return [(schema, name) for schema, name in cursor.fetchall()]


def old_sessions(connection: BaseDatabaseWrapper) -> list[int]:
    """Return the process ids of other sessions that seem to be django-pgpubsub's."""
    with connection.cursor() as cursor:
        cursor.execute(query("old_sessions"))
        return [pid for (pid,) in cursor.fetchall()]
