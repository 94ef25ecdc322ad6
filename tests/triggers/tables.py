"""Watched tables, their messages, and roles that write to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.sql.ddl import create
from pgpubsub_sql.sql.trigger import Trigger

ALL = ("insert", "update", "delete")


def sql(statement: str, *parameters: Any) -> list[Any]:
    """Execute a statement, and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def watch(
    db_table: str, *events: str, target: dict[str, str] | None = None, **options: Any
) -> None:
    """Install a trigger on any table, as ``migrate`` does; by default a durable channel."""
    options = {"channel": "watched", "after": events or ALL, "durable": True} | options
    trigger = Trigger(model="app.any", **options)
    names = {"schema": "public", "helpers": "public", "app": "tests"} | (target or {})
    for statement in create(trigger, find_target(connection, trigger, db_table, **names)):
        sql(statement)


def taken() -> list[dict[str, Any]]:
    """Return the stored payloads, and delete them."""
    rows = sql("DELETE FROM public.pgpubsub_sql_notification RETURNING id, payload::text")
    return [json.loads(payload) for _, payload in sorted(rows)]


def changes() -> list[str]:
    """Return the stored messages, each spelled by :func:`change`, and delete them."""
    return [change(payload) for payload in taken()]


def change(payload: dict[str, Any]) -> str:
    """Return a change as ``old->new``, each row as its values: ``1a->1z``."""
    return f"{brief(payload['old'])}->{brief(payload['new'])}"


def brief(row: dict[str, Any] | None) -> str:
    return "".join(str(value) for value in (row or {}).values())


@contextmanager
def as_role(name: str) -> Iterator[None]:
    """Write as another role."""
    sql(f"SET LOCAL ROLE {name}")
    yield
    sql("RESET ROLE")
