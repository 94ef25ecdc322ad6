"""Evaluation of a condition on sample rows: some errors depend on values, and a plan has none."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql import SQL, query, sqlstate
from pgpubsub_sql.sql.expressions import some_rows, try_condition, try_row
from pgpubsub_sql.sql.sqlstates import is_lost
from pgpubsub_sql.sql.trigger import Trigger

Row = Mapping[str, Any]
"""Values by column, as JSON has them; missing columns are NULL."""

_TEXTS = ("a", "1", "2000-01-01 00:00", "{}", '"a"=>"1"', "00000000-0000-0000-0000-000000000000")
"""Text that a condition may cast to another type."""
_VALUES: dict[str, tuple[Any, ...]] = {
    "B": (True,),
    "D": ("2000-01-01 00:00",),
    "I": ("127.0.0.1",),
    "N": ("1",),
    "R": ("empty",),
    "S": _TEXTS,
    "T": ("1 day",),
}
"""Sample values by category of type, ``pg_type.typcategory``."""
_NAMED_VALUES: dict[str, tuple[Any, ...]] = {
    "json": ({},),
    "jsonb": ({},),
    "uuid": ("00000000-0000-0000-0000-000000000000",),
}
"""Sample values by name of type, where the category does not tell."""

_NEVER_VALID = ("0A", "42", "P0")
"""SQLSTATE classes of errors that no value can cause: unsupported, unknown, not allowed."""
_VALUE_ERRORS = ("22", "23")
"""SQLSTATE classes of errors that depend on the value: data, constraints."""
_CONSTANT_ERRORS = ("22019", "2201B", "22023", "22025")
"""SQLSTATEs among these that a constant in the condition causes: an escape, a pattern, a
parameter."""
_LOCK_TIMEOUT = "100ms"
"""How long to wait for a table that is locked."""


def find_refusal(
    connection: BaseDatabaseWrapper, trigger: Trigger, table: SQL, search_path: SQL
) -> str | None:
    """Return the error that the condition of *trigger* raises whatever its columns hold, if any.

    It is evaluated with all of its columns, and then with one at a time while the others are NULL,
    so that AND and OR reach every part. Rows of the table decide. If none has values in these
    columns, sample rows are used instead, and only errors that no value can cause count.
    """
    columns = sorted(trigger.condition_columns)
    if not columns:
        return None
    probe = _Probe(connection, trigger, table, search_path)
    real = probe.real_rows()
    for named in [columns, *([column] for column in columns if len(columns) > 1)]:
        if rows := _with_values(real, named):
            error = probe.first_error(rows, _NEVER_VALID + _VALUE_ERRORS)
        else:
            error = probe.first_error(_with_values(probe.sample_rows, named), _NEVER_VALID)
        if error:
            return f"its condition {trigger.condition} fails on every row that was tried: {error}"
    return None


def _with_values(rows: list[Row], named: list[str]) -> list[Row]:
    """Return the *rows* that have a value in each *named* column, reduced to these columns."""
    chosen = [{name: row.get(name) for name in named} for row in rows]
    return [row for row in chosen if None not in row.values()]


class _Probe:
    """Runs statements in savepoints that are rolled back: no rows, locks or settings remain."""

    def __init__(
        self, connection: BaseDatabaseWrapper, trigger: Trigger, table: SQL, search_path: SQL
    ) -> None:
        self._connection = connection
        self._trigger = trigger
        self._columns = sorted(trigger.condition_columns)
        self._table = table
        self._search_path = search_path

    def real_rows(self) -> list[Row]:
        """Return a few rows of the table; none if it cannot be read."""
        try:
            with self._savepoint() as cursor:
                cursor.execute(
                    query("set_setting"),
                    {"name": "lock_timeout", "value": _LOCK_TIMEOUT, "local": True},
                )
                cursor.execute(some_rows(self._columns, self._table), None)
                return [json.loads(text) for (text,) in cursor.fetchall()]
        except DatabaseError as error:
            if is_lost(error):
                raise
            return []

    @cached_property
    def sample_rows(self) -> list[Row]:
        """Made-up rows that the table could have."""
        kinds = {"table": str(self._table), "columns": self._columns}
        with self._savepoint() as cursor:
            cursor.execute(query("column_kinds"), kinds)
            values = {name: _values(*kind) for name, *kind in cursor.fetchall()}
        rows = [
            {name: some[min(turn, len(some) - 1)] for name, some in values.items()}
            for turn in range(max(map(len, values.values()), default=0))
        ]
        return [row for row in rows if not self._error(try_row(row, self._table))]

    def first_error(self, rows: list[Row], classes: tuple[str, ...]) -> str | None:
        """Return the first error, if the condition fails on all *rows* and only with *classes*."""
        errors: list[DatabaseError] = []
        for row in rows:
            error = self._error(try_condition(self._trigger, row, self._table))
            if error is None or not _has_class(error, classes):
                return None
            errors.append(error)
        return str(errors[0]).strip() if errors else None

    def _error(self, statement: str) -> DatabaseError | None:
        try:
            with self._savepoint() as cursor:
                cursor.execute(statement, None)
        except DatabaseError as error:
            if is_lost(error):
                raise
            return error
        return None

    @contextlib.contextmanager
    def _savepoint(self) -> Iterator[Any]:
        with transaction.atomic(self._connection.alias), self._connection.cursor() as cursor:
            cursor.execute(query("set_search_path"), {"path": str(self._search_path)})
            yield cursor
            transaction.set_rollback(True, self._connection.alias)


def _has_class(error: DatabaseError, classes: tuple[str, ...]) -> bool:
    state = sqlstate(error)
    return state.startswith(classes) or state in _CONSTANT_ERRORS


def _values(category: str, name: str, is_array: bool, label: str | None) -> tuple[Any, ...]:
    """Return sample values of a type; None if we know none."""
    values = (label,) if label else _NAMED_VALUES.get(name) or _VALUES.get(category, (None,))
    if is_array:
        return tuple(None if value is None else [value] for value in values)
    return values
