"""The watched table, as the catalogue has it, and whether a trigger fits it."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.condition_probe import find_refusal
from pgpubsub_sql.sql import SQL, query, quote_identifier, quote_table
from pgpubsub_sql.sql.ddl import ExistingTrigger, Target
from pgpubsub_sql.sql.expressions import chooses, plan
from pgpubsub_sql.sql.own_tables import TABLES
from pgpubsub_sql.sql.sqlstates import is_lost
from pgpubsub_sql.sql.trigger import Trigger

_UNWATCHABLE = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
"""Relations that cannot be watched, by ``pg_class.relkind``."""


def find_target(
    connection: BaseDatabaseWrapper, trigger: Trigger, db_table: str, **names: Any
) -> Target:
    """Return the target of *trigger* on *db_table*; *names* are its fields that the caller knows.

    Raises :class:`NotReady` for a relation that is not a table, and for our own tables.
    """
    table = quote_table(db_table)
    with connection.cursor() as cursor:
        cursor.execute(query("find_table"), {"table": table})
        found = cursor.fetchone()
        if found is None:
            return Target(db_table=db_table, **names)
        oid, schema, name, kind, partitioned, triggers, by_row, enabled = found
        _check_kind(kind, trigger, table)
        _check_owner(name, trigger, table)
        type_schemas = _find_type_schemas(cursor, trigger, table)
    states = zip(triggers, by_row, enabled, strict=True)
    return Target(
        db_table=db_table,
        table_oid=oid,
        qualified=SQL(f"{quote_identifier(schema)}.{quote_identifier(name)}"),
        watched=schema,
        partitioned=partitioned,
        installed={name: ExistingTrigger(by_row=row, enabled=state) for name, row, state in states},
        type_schemas=type_schemas,
        **names,
    )


def _find_type_schemas(cursor: Any, trigger: Trigger, table: str) -> tuple[str, ...]:
    """Return where the types of the condition's columns live, whose operators it uses."""
    columns = sorted(trigger.condition_columns)
    if not columns:
        return ()
    cursor.execute(query("find_type_schemas"), {"table": table, "columns": columns})
    return tuple(schema for (schema,) in cursor.fetchall())


def _check_kind(kind: str, trigger: Trigger, table: str) -> None:
    if kind in _UNWATCHABLE:
        raise NotReady(
            f"The channel {trigger.channel!r} cannot watch {table}, which is {_UNWATCHABLE[kind]}: "
            "PostgreSQL does not tell triggers on it which rows have changed. Watch the tables "
            "underneath."
        )


def _check_owner(name: str, trigger: Trigger, table: str) -> None:
    if name in TABLES:
        raise NotReady(
            f"The channel {trigger.channel!r} cannot watch {table}, where pgpubsub_sql stores "
            "messages: each message would store another, without end. Watch another table, and "
            "remove the operation from the migration."
        )


def check_columns(connection: BaseDatabaseWrapper, trigger: Trigger, target: Target) -> None:
    """Raise :class:`NotReady` if the function of *trigger* could not use the columns it names.

    Every message of the channel would be stale.
    """
    if reason := misfit(connection, trigger, target):
        raise NotReady(
            f"The trigger of channel {trigger.channel!r} cannot be installed on "
            f"{target.qualified}: {reason} (Operators and functions are looked up in "
            f"{target.search_path}.) Change the channel's columns, watch or condition, or let the "
            "migration that creates the column run first."
        )


def misfit(connection: BaseDatabaseWrapper, trigger: Trigger, target: Target) -> str | None:
    """Return why the function of *trigger* cannot use the columns it names; None if it can."""
    if target.qualified is None or not trigger.names_columns:
        return None
    if virtual := _virtual_columns(connection, trigger, target):
        names = ", ".join(virtual)
        return f"PostgreSQL computes {names} on reading, so no trigger sees it."
    if not chooses(trigger, "row"):
        return None
    if reason := _unplanned(connection, plan(trigger, target.qualified), target.search_path):
        return reason
    return find_refusal(connection, trigger, target.qualified, target.search_path)


def _virtual_columns(
    connection: BaseDatabaseWrapper, trigger: Trigger, target: Target
) -> list[str]:
    """Return the virtual columns among those named: a trigger sees NULL, or fails to read them."""
    with connection.cursor() as cursor:
        values: dict[str, Any] = {
            "table": str(target.qualified),
            "columns": sorted(trigger.named_columns),
        }
        cursor.execute(query("virtual_columns"), values)
        return [name for (name,) in cursor.fetchall()]


def _unplanned(connection: BaseDatabaseWrapper, statement: str, search_path: SQL) -> str | None:
    """Return why PostgreSQL cannot plan *statement*; None if it can."""
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(query("set_search_path"), {"path": str(search_path)})
            cursor.execute(statement, None)
            transaction.set_rollback(True, connection.alias)  # restores the search_path
    except DatabaseError as error:
        if is_lost(error):
            raise
        return str(error).strip()
    return None
