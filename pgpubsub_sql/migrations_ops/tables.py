"""What the catalogue says of a table that is to be watched."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql import SQL, query, quote_identifier, quote_table
from pgpubsub_sql.sql.choosing import chooses, plan
from pgpubsub_sql.sql.installing import Installed, Site
from pgpubsub_sql.sql.trigger import Trigger

_UNWATCHABLE = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
"""What is no table, by ``pg_class.relkind``."""


def find_site(
    connection: BaseDatabaseWrapper, trigger: Trigger, db_table: str, **names: Any
) -> Site:
    """Return the site of *trigger*, of which *names* are what the caller knows.

    Raises :class:`NotReady` for what is no table.
    """
    table = quote_table(db_table)
    with connection.cursor() as cursor:
        cursor.execute(query("find_table"), {"table": table})
        found = cursor.fetchone()
        if found is None:
            return Site(db_table=db_table, **names)
        schema, name, kind, partitioned, triggers, by_row, enabled = found
        _check_kind(kind, trigger, table)
        values: dict[str, Any] = {"table": table, "columns": sorted(trigger.condition_columns)}
        cursor.execute(query("find_type_schemas"), values)
        type_schemas = tuple(schema for (schema,) in cursor.fetchall())
    states = zip(triggers, by_row, enabled, strict=True)
    return Site(
        db_table=db_table,
        qualified=SQL(f"{quote_identifier(schema)}.{quote_identifier(name)}"),
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


def check_plan(connection: BaseDatabaseWrapper, trigger: Trigger, site: Site) -> None:
    """Let a migration fail for what would make every message of the channel stale.

    Raises :class:`NotReady` if PostgreSQL cannot plan what the function is to do.
    """
    if site.qualified is None or not chooses(trigger, "row"):
        return
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(query("set_search_path"), {"path": site.search_path})
            cursor.execute(plan(trigger, site.qualified), None)
            transaction.set_rollback(True, connection.alias)  # which puts the search_path back
    except DatabaseError as error:
        raise NotReady(
            f"The trigger of channel {trigger.channel!r} cannot be installed on "
            f"{site.qualified}: {str(error).strip()} (Operators and functions are looked up in "
            f"{site.search_path}.) Change the channel's columns, watch or condition, or let the "
            "migration that makes the column run first."
        ) from error
