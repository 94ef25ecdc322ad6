"""Removal of what django-pgpubsub has left in a database, once nothing uses it any more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.apps import apps
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.django_internals import forget_migrations
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import PREDECESSOR, is_predecessor_installed
from pgpubsub_sql.migrations_ops.adoption import old_name_of, shares
from pgpubsub_sql.sql import query, render, sqlstate
from pgpubsub_sql.sql.predecessor import (
    TABLE,
    has_old_table,
    old_functions,
    old_sessions,
    old_triggers,
)

LOCK_TIMEOUT = "2s"
"""How long to wait for those who use the table; writers of theirs wait behind us."""
PROBE_SECONDS = 2.0
"""How long to wait for an answer of its workers, which look into the table when they are rung."""
_LOCK_NOT_AVAILABLE = "55P03"


def drop(connection: BaseDatabaseWrapper) -> list[str]:
    """Drop the old table, functions, content types and migration records, and name them.

    Raises :class:`NotReady`, saying what to do, as long as something still needs them.
    """
    _check_unneeded(connection)
    dropped = []
    with transaction.atomic(using=connection.alias):
        if has_old_table(connection):
            _lock(connection)
            _check_unused(connection)
            _execute(connection, query("drop_old_table"))
            dropped.append(f"the table {TABLE}")
        for schema, function in old_functions(connection):
            _execute(connection, render("triggers/drop_function", schema=schema, function=function))
            dropped.append(f"the function {function}")
        dropped += _forget(connection)
    return dropped


def _check_unneeded(connection: BaseDatabaseWrapper) -> None:
    if is_predecessor_installed():
        raise NotReady(
            f'"{PREDECESSOR}" is still in INSTALLED_APPS. Remove it once every app has moved. If '
            'migrations depend on it, put "pgpubsub_sql.compat" into its place.'
        )
    if triggers := old_triggers(connection):
        listed = ", ".join(f"{one.name} on {one.table}" for one in triggers)
        raise NotReady(
            f"Triggers of django-pgpubsub are still there: {listed}. Without its table, the writes "
            "that fire them would fail. Run: python manage.py pgpubsub verify"
        )


def _lock(connection: BaseDatabaseWrapper) -> None:
    _execute(connection, query("lock_timeout"), {"timeout": LOCK_TIMEOUT})
    try:
        with transaction.atomic(using=connection.alias):
            _execute(connection, query("lock_old_table"))
    except OperationalError as error:
        if sqlstate(error) != _LOCK_NOT_AVAILABLE:
            raise
        raise _in_use(old_sessions(connection)) from error


def _check_unused(connection: BaseDatabaseWrapper) -> None:
    """Raise :class:`NotReady` if the locked table has rows, or somebody looks into it."""
    if left := shares(connection):
        listed = ", ".join(f"{one.stored.number} of {one.stored.name}" for one in left)
        raise NotReady(
            f"Messages are still stored in {TABLE}: {listed}. Run: python manage.py pgpubsub adopt"
        )
    if pids := _answering(connection):
        raise _in_use(pids)


def _answering(connection: BaseDatabaseWrapper) -> list[int]:
    """Return the sessions of its workers: rung, they wait for the table that we have locked."""
    names = [old_name_of(channel) for channel in declared_channels()]
    with _second(connection) as second:
        ours = _pid(connection)
        _execute(second, query("ring"), {"channels": names})
        deadline = time.monotonic() + PROBE_SECONDS
        while True:
            found = [pid for pid in old_sessions(second) if pid != ours]
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(0.05)


@contextmanager
def _second(connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
    """Connect once more, as a NOTIFY is sent at the end of its transaction."""
    with closing(connections.create_connection(connection.alias)) as second:
        yield second


def _pid(connection: BaseDatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query("backend"))
        return int(cursor.fetchone()[0])


def _in_use(pids: Iterable[int]) -> NotReady:
    listed = ", ".join(map(str, pids)) or "unknown"
    return NotReady(
        f"Sessions still use {TABLE} (pid {listed}): workers of django-pgpubsub, or processes that "
        "run old code. Stop them, and try again. Nothing was dropped."
    )


def _forget(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """Delete content types, with their permissions, and records of migrations; name them."""
    alias = connection.alias
    if apps.is_installed("django.contrib.contenttypes"):
        types = apps.get_model("contenttypes", "ContentType")
        for one in types._base_manager.using(alias).filter(app_label=PREDECESSOR):
            yield f"the content type {PREDECESSOR}.{one.model}"
            one.delete(using=alias)
    if PREDECESSOR not in apps.app_configs and forget_migrations(connection, PREDECESSOR):
        yield f"the records of the migrations of {PREDECESSOR}"


def _execute(
    connection: BaseDatabaseWrapper, statement: str, values: dict[str, Any] | None = None
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
