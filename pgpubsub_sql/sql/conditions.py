"""From a ``Q`` over ``old__…`` and ``new__…`` to SQL that a trigger can hold.

Django's own ``Query`` does the work, so lookups, transforms, ``F()`` and the treatment of NULL
are those of ``filter()``. Only where a name leads differs: to a row, before or after the change.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldError, FullResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model, Q
from django.db.models.sql.datastructures import BaseTable
from django.db.models.sql.query import Query

from pgpubsub_sql.errors import ConditionError
from pgpubsub_sql.sql.quoting import quote_literal
from pgpubsub_sql.sql.templates import SQL

ROWS = ("old", "new")


def compile_condition(model: type[Model], condition: Q) -> SQL:
    """Return *condition* as one SQL expression over the rows ``old`` and ``new``.

    >>> compile_condition(Author, Q(new__name__startswith="Z"))
    'new."name"::text LIKE \\'Z%\\''

    Where a change has no old or no new row, its columns are NULL.

    Raises :class:`ConditionError` if it names an unknown field, follows a relation into
    another table, or holds a value that has no literal.
    """
    query = _ChangeQuery(model)
    connection = _postgresql()
    try:
        query.add_q(condition)
        text, parameters = query.where.as_sql(query.get_compiler(connection=connection), connection)
    except (FullResultSet, EmptyResultSet) as error:
        raise ConditionError("It is always, or never, true.") from error
    except (FieldError, TypeError, ValueError, NotImplementedError) as error:
        raise ConditionError(str(error)) from error
    if joined := [a for a, count in query.alias_refcount.items() if count and a not in ROWS]:
        raise ConditionError(
            f"It reads the table {joined[0]!r}, but a trigger sees only the row that changed. "
            "Compare the column of the foreign key instead."
        )
    return SQL(text % tuple(_literal(parameter) for parameter in parameters))


class _ChangeQuery(Query):
    """A query whose names begin with the row they mean."""

    def __init__(self, model: type[Model]) -> None:
        super().__init__(model)
        for row in ROWS:
            self.alias_map[row] = BaseTable(model._meta.db_table, row)
            self.alias_refcount[row] = 1

    def names_to_path(self, names: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        row, *rest = names
        if row not in ROWS or not rest:
            raise FieldError(
                f"{'__'.join(names)!r} names no field: begin with 'old__' or 'new__', the row "
                "before or after the change."
            )
        return super().names_to_path(rest, *args, **kwargs)

    def setup_joins(self, names: Sequence[str], opts: Any, alias: str, *a: Any, **kw: Any) -> Any:
        return super().setup_joins(names, opts, names[0], *a, **kw)

    def is_nullable(self, field: Field[Any, Any]) -> bool:
        # Any column is NULL where there is no such row: old at INSERT, new at DELETE.
        return True


def _postgresql() -> BaseDatabaseWrapper:
    for connection in connections.all():
        if connection.vendor == "postgresql":
            return connection
    raise ConditionError("No database of this project is PostgreSQL.")


def _literal(value: Any) -> str:
    """Return a parameter as SQL: ours, so that it is the same under both drivers."""
    for kind, spell in _SPELLINGS:
        if isinstance(value, kind):
            return spell(value)
    for wrapped in ("adapted", "obj"):  # Json of psycopg2, Jsonb of psycopg 3
        if hasattr(value, wrapped):
            text = json.dumps(getattr(value, wrapped), sort_keys=True, ensure_ascii=False)
            return f"{quote_literal(text)}::jsonb"
    raise ConditionError(f"{value!r} of type {type(value).__name__} has no literal in SQL.")


def _sequence(values: Sequence[Any]) -> str:
    return f"ARRAY[{', '.join(map(_literal, values))}]" if values else "'{}'"


def _number(value: Any) -> str:
    # Negative numbers are parenthesised: -1::type would negate the cast.
    return f"({value})" if value < 0 else str(value)


_SPELLINGS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (type(None), lambda value: "NULL"),
    (enum.Enum, lambda value: _literal(value.value)),
    (bool, lambda value: "true" if value else "false"),
    (int, lambda value: _number(int(value))),
    (decimal.Decimal, lambda value: f"{quote_literal(str(value))}::numeric"),
    (float, lambda value: f"{quote_literal(repr(value))}::float8"),
    (str, lambda value: quote_literal(str(value))),
    (datetime.datetime, lambda value: f"{quote_literal(value.isoformat())}::timestamptz"),
    (datetime.date, lambda value: f"{quote_literal(value.isoformat())}::date"),
    (datetime.time, lambda value: f"{quote_literal(value.isoformat())}::time"),
    (
        datetime.timedelta,
        lambda value: (
            f"'{value.days} days {value.seconds} seconds {value.microseconds} us'::interval"
        ),
    ),
    (uuid.UUID, lambda value: f"'{value}'::uuid"),
    ((bytes, memoryview), lambda value: f"'\\x{bytes(value).hex()}'::bytea"),
    ((list, tuple), _sequence),
)
