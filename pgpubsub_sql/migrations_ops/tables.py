"""What the catalogue says of a table that is to be watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql import query, quote_table
from pgpubsub_sql.sql.installing import Installed


class Table(NamedTuple):
    """What decides how its triggers are installed."""

    partitioned: bool
    """Whether it has partitions, or is one."""
    installed: Mapping[str, Installed]
    """The triggers that it has, by name."""


def find_table(connection: BaseDatabaseWrapper, db_table: str) -> Table:
    """Look *db_table* up; what is not there yet, as ``sqlmigrate`` may find it, is ordinary."""
    with connection.cursor() as cursor:
        cursor.execute(query("find_table"), {"table": quote_table(db_table)})
        found = cursor.fetchone()
    if found is None:
        return Table(partitioned=False, installed={})
    partitioned, names, by_row, enabled = found
    states = zip(names, by_row, enabled, strict=True)
    return Table(partitioned, {name: Installed(by_row=r, enabled=e) for name, r, e in states})
