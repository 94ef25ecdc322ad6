"""What the catalogue says of a table that is to be watched."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.trying import refusal
from pgpubsub_sql.sql import SQL, query, quote_identifier, quote_table
from pgpubsub_sql.sql.choosing import chooses, plan
from pgpubsub_sql.sql.installing import Installed, Site
from pgpubsub_sql.sql.ours import TABLES
from pgpubsub_sql.sql.trigger import Trigger

_UNWATCHABLE = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
"""What is no table, by ``pg_class.relkind``."""


def find_site(
    connection: BaseDatabaseWrapper, trigger: Trigger, db_table: str, **names: Any
) -> Site:
    """Return the site of *trigger*, of which *names* are what the caller knows.

    Raises :class:`NotReady` for what is no table, and for our own.
    """
    table = quote_table(db_table)
    with connection.cursor() as cursor:
        cursor.execute(query("find_table"), {"table": table})
        found = cursor.fetchone()
        if found is None:
            return Site(db_table=db_table, **names)
        oid, schema, name, kind, partitioned, triggers, by_row, enabled = found
        _check_kind(kind, trigger, table)
        _check_owner(name, trigger, table)
        values: dict[str, Any] = {"table": table, "columns": sorted(trigger.condition_columns)}
        cursor.execute(query("find_type_schemas"), values)
        type_schemas = tuple(schema for (schema,) in cursor.fetchall())
    states = zip(triggers, by_row, enabled, strict=True)
    return Site(
        db_table=db_table,
        table_oid=oid,
        qualified=SQL(f"{quote_identifier(schema)}.{quote_identifier(name)}"),
        watched=schema,
        partitioned=partitioned,
        installed={name: Installed(by_row=row, enabled=state) for name, row, state in states},
        type_schemas=type_schemas,
        **names,
    )


def _check_kind(kind: str, trigger: Trigger, table: str) -> None:
    if kind in _UNWATCHABLE:
        raise NotReady(
            f"The channel {trigger.channel!r} cannot watch {table}, which is {_UNWATCHABLE[kind]}: "
            "PostgreSQL tells no trigger which of its rows have changed. Watch the tables behind."
        )


def _check_owner(name: str, trigger: Trigger, table: str) -> None:
    if name in TABLES:
        raise NotReady(
            f"The channel {trigger.channel!r} cannot watch {table}, where pgpubsub_sql stores "
            "messages: each would make it store another, without end. Watch another table, and "
            "remove the operation from the migration."
        )


def check_plan(connection: BaseDatabaseWrapper, trigger: Trigger, site: Site) -> None:
    """Let a migration fail for what would make every message of the channel stale.

    Raises :class:`NotReady` if the columns that *trigger* names are not as it needs them.
    """
    if reason := misfit(connection, trigger, site):
        raise NotReady(
            f"The trigger of channel {trigger.channel!r} cannot be installed on "
            f"{site.qualified}: {reason} (Operators and functions are looked up in "
            f"{site.search_path}.) Change the channel's columns, watch or condition, or let the "
            "migration that makes the column run first."
        )


def misfit(connection: BaseDatabaseWrapper, trigger: Trigger, site: Site) -> str | None:
    """Return why the function of *trigger* cannot do with the table's columns what it is to do."""
    if site.qualified is None or not trigger.names_columns:
        return None
    if virtual := _virtual_columns(connection, trigger, site):
        names = ", ".join(virtual)
        return f"PostgreSQL computes {names} when it is read, so that no trigger sees it."
    if not chooses(trigger, "row"):
        return None
    if reason := _unplanned(connection, plan(trigger, site.qualified), site.search_path):
        return reason
    return refusal(connection, trigger, site.qualified, site.search_path)


def _virtual_columns(connection: BaseDatabaseWrapper, trigger: Trigger, site: Site) -> list[str]:
    """Return those of the columns that are named which a trigger finds NULL, or fails to read."""
    with connection.cursor() as cursor:
        values: dict[str, Any] = {
            "table": str(site.qualified),
            "columns": sorted(trigger.named_columns),
        }
        cursor.execute(query("virtual_columns"), values)
        return [name for (name,) in cursor.fetchall()]


def _unplanned(connection: BaseDatabaseWrapper, statement: str, search_path: SQL) -> str | None:
    """Return PostgreSQL's reason for not planning *statement*; None if it does."""
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(query("set_search_path"), {"path": search_path.text})
            cursor.execute(statement, None)
            transaction.set_rollback(True, connection.alias)  # which puts the search_path back
    except DatabaseError as error:
        return str(error).strip()
    return None
