"""What tests of receiving ask of the database: who was called, what is stored, who is connected."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from pgpubsub_sql.models import Notification
from tests.app.models import Entry

WAIT_LOCK = 77
"""The advisory lock on which a listener in the mood "wait" waits."""


def calls(listener: str) -> list[dict[str, Any]]:
    """Return what a listener was called with, in order."""
    return list(
        Entry.objects.filter(listener=listener).order_by("id").values_list("data", flat=True)
    )


def numbers(listener: str) -> list[int]:
    """Return the numbers that a listener was called with, in order."""
    return [data["number"] for data in calls(listener)]


def stored() -> dict[int, Notification]:
    """Return the stored jobs by their number."""
    return {row.payload.get("number"): row for row in Notification.objects.all()}


def sql(statement: str, *parameters: Any) -> list[Any]:
    """Execute *statement* on the test's own connection; return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


def copy(statement: str, rows: str) -> None:
    """Execute a COPY … FROM STDIN, for which Django has no words, and each driver its own."""
    with connection.cursor() as cursor:
        if hasattr(cursor, "copy_expert"):
            cursor.copy_expert(statement, io.StringIO(rows))
        else:
            with cursor.copy(statement) as writer:
                writer.write(rows)


@contextmanager
def stranger() -> Iterator[Any]:
    """A connection of somebody who knows nothing of Django, in autocommit mode."""
    raw = connection.Database.connect(**connection.get_connection_params())
    raw.autocommit = True
    try:
        yield raw.cursor()
    finally:
        raw.close()


@contextmanager
def listeners_wait() -> Iterator[None]:
    """Hold the lock that listeners in the mood "wait" ask for; let them go on at the end."""
    sql("SELECT pg_advisory_lock(%s)", WAIT_LOCK)
    try:
        yield
    finally:
        sql("SELECT pg_advisory_unlock(%s)", WAIT_LOCK)


def waiting() -> int:
    """Return how many listeners wait for the lock."""
    ((count,),) = sql(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted",
        WAIT_LOCK,
    )
    return int(count)


def backends(application: str) -> list[int]:
    """Return the server processes of the workers' connections of this name."""
    rows = sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND application_name = %s",
        application,
    )
    return [pid for (pid,) in rows]
