"""From a ``Q`` over ``old__…`` and ``new__…`` to SQL that a trigger can hold.

Django's own ``Query`` does the work, so lookups, transforms, ``F()`` and the treatment of NULL
are those of ``filter()``, as if *old* and *new* were foreign keys to rows of the table. Only
where a name leads differs: to a row, before or after the change.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import (
    EmptyResultSet,
    FieldDoesNotExist,
    FieldError,
    FullResultSet,
    ValidationError,
)
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model, Q
from django.db.models.fields.composite import CompositePrimaryKey
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.datastructures import BaseTable
from django.db.models.sql.query import Query
from django.utils import timezone, translation

from pgpubsub_sql.errors import ConditionError, TemplateError
from pgpubsub_sql.sql.literals import literal
from pgpubsub_sql.sql.quoting import DOLLAR_TAG, quote_identifier
from pgpubsub_sql.sql.templates import SQL

ROWS = ("old", "new")

_OLDEST_SERVER = 140000
"""What compiles for PostgreSQL 14 runs on every later one; asking a server would make the text
depend on it."""

_REFUSALS = (
    ArithmeticError,
    AttributeError,
    DatabaseError,
    FieldError,
    LookupError,
    NotImplementedError,
    TemplateError,
    TypeError,
    ValidationError,
    ValueError,
)
"""What Django, and fields and lookups of a project, raise for what they cannot compile."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition as SQL, and what it reads."""

    sql: SQL
    """One expression over the rows ``old`` and ``new``, in parentheses."""
    fields: tuple[str, ...]
    """Names of the model's fields that it reads, of either row, in alphabetical order."""
    columns: tuple[str, ...]
    """Their columns in the database, in alphabetical order."""


def compile_condition(model: type[Model], condition: Q) -> Condition:
    """Return *condition* as SQL over the rows ``old`` and ``new`` of the table of *model*.

    >>> compile_condition(Author, Q(new__name__startswith="Z")).sql
    '("new"."name"::text LIKE \\'Z%\\')'

    Where a change has no old or no new row, its columns are NULL. Dates and hours are those of
    ``settings.TIME_ZONE``, whose name becomes part of the SQL.

    Raises :class:`ConditionError` if it names an unknown field, follows a relation into
    another table, or holds a value that has no literal.
    """
    if not isinstance(condition, Q):
        raise ConditionError(f"{condition!r} is not a Q: wrap it, as Q(…).")
    if not condition:
        raise ConditionError("It is empty. Leave the option out, and every change counts.")
    query = _ChangeQuery(model._meta.concrete_model or model)
    try:
        with timezone.override(timezone.get_default_timezone()), translation.override(None):
            text = _compile(query, condition)
    except ConditionError:
        raise
    except (FullResultSet, EmptyResultSet) as error:
        raise ConditionError("It is always, or never, true, whatever changed.") from error
    except _REFUSALS as error:
        raise ConditionError(str(error)) from error
    if DOLLAR_TAG in text:
        raise ConditionError(f"A column's name contains {DOLLAR_TAG}, which no function can hold.")
    if not query.read:
        raise ConditionError("It reads no field, of neither the old nor the new row.")
    return Condition(
        sql=SQL(f"({text})"),
        fields=tuple(sorted(field.name for field in query.read)),
        columns=tuple(sorted(field.column for field in query.read)),
    )


def _compile(query: _ChangeQuery, condition: Q) -> str:
    query.add_q(condition)
    if query.where.contains_aggregate:
        raise ConditionError("It aggregates rows, but a trigger sees only the one that changed.")
    if query.where.contains_over_clause:
        raise ConditionError("It looks through a window, but a trigger sees only one row.")
    text, parameters = _Compiler(query, _connection(), None).compile(query.where)
    return str(text % tuple(map(literal, parameters)))


def _connection() -> BaseDatabaseWrapper:
    """Return what compiles for PostgreSQL, and never connects."""
    for connection in connections.all():
        if connection.vendor == "postgresql":
            copy: Any = connection.copy()
            copy.pg_version = _OLDEST_SERVER
            copy.ops._convert_sql_to_tz = _at_time_zone
            return copy  # type: ignore[no-any-return]
    raise ConditionError("No database of this project is PostgreSQL.")


def _at_time_zone(sql: str, params: Sequence[Any], tzname: str | None) -> tuple[str, Any]:
    """Name the zone also without USE_TZ, where Django leaves it to the session: here a writer's."""
    return f"{sql} AT TIME ZONE %s", (*params, tzname or timezone.get_default_timezone_name())


class _ChangeQuery(Query):
    """A query whose names begin with the row they mean."""

    def __init__(self, model: type[Model]) -> None:
        super().__init__(model)
        self.options = model._meta
        self.read: set[Any] = set()
        for row in ROWS:
            self.alias_map[row] = BaseTable(model._meta.db_table, row)
            self.alias_refcount[row] = 1

    def names_to_path(self, names: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        row, *rest = names
        if row not in ROWS or not rest:
            raise ConditionError(
                f"{'__'.join(names)!r} names no field: begin with 'old__' or 'new__', the row "
                "before or after the change."
            )
        self._check_field(rest[0])
        return super().names_to_path(rest, *args, **kwargs)

    def setup_joins(self, names: Sequence[str], opts: Any, alias: str, *a: Any, **kw: Any) -> Any:
        return super().setup_joins(names, opts, names[0], *a, **kw)

    def trim_joins(self, targets: Any, joins: Any, path: Any) -> Any:
        targets, alias, joins = super().trim_joins(targets, joins, path)
        if alias not in ROWS:
            raise ConditionError(_joined(targets[0], path))
        for target in targets:
            composite = isinstance(target, CompositePrimaryKey)
            self.read.update(target.fields if composite else [target])
        return targets, alias, joins

    def split_exclude(self, *args: Any) -> Any:
        raise ConditionError(f"It reads another table. {_ONE_ROW}")

    def is_nullable(self, field: Field[Any, Any]) -> bool:
        # Any column is NULL where there is no such row: old at INSERT, new at DELETE.
        return True

    def _check_field(self, name: str) -> None:
        options = self.options
        try:
            options.get_field(options.pk.name if name == "pk" else name)
        except FieldDoesNotExist:
            names = [field.name for field in options.concrete_fields]
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(names)}."
            raise ConditionError(f"{options.label} has no field {name!r}. {hint}") from None


def _joined(target: Field[Any, Any], path: Sequence[Any]) -> str:
    """Return why *target* cannot be read, which *path* leads to."""
    where = f"{target.model._meta.label}.{target.name}"
    if path[0].join_field.remote_field.parent_link:
        return (
            f"It reads {where}, which is in the table of the parent model: a trigger sees only "
            "the row that changed. Watch the parent model instead."
        )
    return f"It reads {where}, which is in another table. {_ONE_ROW}"


_ONE_ROW = (
    "A trigger sees only the row that changed: compare the column of the foreign key instead, "
    "or let the listener look."
)


class _Compiler(SQLCompiler):
    """Quotes every name, and follows no query within the condition."""

    def compile(self, node: Any) -> Any:
        if getattr(node, "subquery", False):
            raise ConditionError(f"It contains a subquery. {_ONE_ROW}")
        return super().compile(node)

    def quote_name_unless_alias(self, name: str) -> str:
        return quote_identifier(name).replace("%", "%%")
