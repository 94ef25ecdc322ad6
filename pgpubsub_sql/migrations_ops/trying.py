"""A condition tried on rows. A plan does not show what only a value brings out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql import SQL, query, sqlstate
from pgpubsub_sql.sql.choosing import some_rows, try_condition, try_row
from pgpubsub_sql.sql.trigger import Trigger

Row = Mapping[str, Any]
"""Values by column, as JSON has them. What is left out is NULL."""

_TEXTS = ("a", "1", "2000-01-01 00:00", "{}", '"a"=>"1"', "00000000-0000-0000-0000-000000000000")
"""What a text may hold that a condition casts to another type."""
_VALUES: dict[str, tuple[Any, ...]] = {
    "B": (True,),
    "D": ("2000-01-01 00:00",),
    "I": ("127.0.0.1",),
    "N": ("1",),
    "R": ("empty",),
    "S": _TEXTS,
    "T": ("1 day",),
}
"""Values of a type by its category, ``pg_type.typcategory``."""
_NAMED_VALUES: dict[str, tuple[Any, ...]] = {
    "json": ({},),
    "jsonb": ({},),
    "uuid": ("00000000-0000-0000-0000-000000000000",),
}
"""Values of types whose category says nothing."""

_REFUSED = ("0A", "42", "P0")
"""Classes of errors that no value is to blame for: not supported, not there, not allowed."""
_BLAMED = ("22", "23")
"""Classes of errors that another value may not have: data, constraints."""
_CONSTANTS = ("22019", "2201B", "22023", "22025")
"""Of these, those that a constant is to blame for: an escape, a pattern, a parameter."""
_PATIENCE = "100ms"
"""How long to wait for rows of a table that somebody has locked."""


def refusal(
    connection: BaseDatabaseWrapper, trigger: Trigger, table: SQL, search_path: SQL
) -> str | None:
    """Return why PostgreSQL refuses the condition of *trigger* for whatever its columns hold.

    It is tried with all of its columns, and with each of them while the others are NULL, because
    AND and OR then reach every part. Rows of the table decide. Where no row has the columns, made
    ones do, and for these only what no other value could mend.
    """
    columns = sorted(trigger.condition_columns)
    tries = _Tries(connection, trigger, table, search_path)
    real, made = tries.real_rows(columns), tries.made_rows(columns)
    for named in [columns, *([column] for column in columns if len(columns) > 1)]:
        if rows := _with_values(real, named):
            error = tries.first_error(rows, _REFUSED + _BLAMED)
        else:
            error = tries.first_error(_with_values(made, named), _REFUSED)
        if error:
            return f"no row was found for which its condition {trigger.condition} works: {error}"
    return None


def _with_values(rows: list[Row], named: list[str]) -> list[Row]:
    """Return those *rows* that have a value in each column *named*, without the others."""
    chosen = [{name: row.get(name) for name in named} for row in rows]
    return [row for row in chosen if None not in row.values()]


class _Tries:
    """What is tried leaves no trace: neither rows, locks nor settings."""

    def __init__(
        self, connection: BaseDatabaseWrapper, trigger: Trigger, table: SQL, search_path: SQL
    ) -> None:
        self._connection = connection
        self._trigger = trigger
        self._table = table
        self._search_path = search_path

    def real_rows(self, columns: list[str]) -> list[Row]:
        """Return a few rows of the table; none where it cannot be read."""
        try:
            with self._aside() as cursor:
                cursor.execute(
                    query("set_setting"),
                    {"name": "lock_timeout", "value": _PATIENCE, "local": True},
                )
                cursor.execute(some_rows(columns, self._table), None)
                return [json.loads(text) for (text,) in cursor.fetchall()]
        except DatabaseError:
            return []

    def made_rows(self, columns: list[str]) -> list[Row]:
        """Return rows that the table could have."""
        with self._aside() as cursor:
            cursor.execute(query("column_kinds"), {"table": str(self._table), "columns": columns})
            values = {name: _values(*kind) for name, *kind in cursor.fetchall()}
        rows = [
            {name: some[min(turn, len(some) - 1)] for name, some in values.items()}
            for turn in range(max(map(len, values.values()), default=0))
        ]
        return [row for row in rows if not self._error(try_row(row, self._table))]

    def first_error(self, rows: list[Row], classes: tuple[str, ...]) -> str | None:
        """Return the first error, if each of the *rows* has one, and all are of these *classes*."""
        errors: list[DatabaseError] = []
        for row in rows:
            error = self._error(try_condition(self._trigger, row, self._table))
            if error is None or not _is_of(error, classes):
                return None
            errors.append(error)
        return str(errors[0]).strip() if errors else None

    def _error(self, statement: str) -> DatabaseError | None:
        try:
            with self._aside() as cursor:
                cursor.execute(statement, None)
        except DatabaseError as error:
            return error
        return None

    @contextlib.contextmanager
    def _aside(self) -> Iterator[Any]:
        with transaction.atomic(self._connection.alias), self._connection.cursor() as cursor:
            cursor.execute(query("set_search_path"), {"path": self._search_path.text})
            yield cursor
            transaction.set_rollback(True, self._connection.alias)


def _is_of(error: DatabaseError, classes: tuple[str, ...]) -> bool:
    state = sqlstate(error)
    return state.startswith(classes) or state in _CONSTANTS


def _values(category: str, name: str, is_array: bool, label: str | None) -> tuple[Any, ...]:
    """Return values of a type, None where nobody knows any."""
    values = (label,) if label else _NAMED_VALUES.get(name) or _VALUES.get(category, (None,))
    if is_array:
        return tuple(None if value is None else [value] for value in values)
    return values
