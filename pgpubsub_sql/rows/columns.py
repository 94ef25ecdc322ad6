"""One column of a model's row: how msgspec parses it, and how its value becomes Django's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import msgspec
from django import db
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field
from django.db.models.expressions import Col

from pgpubsub_sql.django_internals import selection_of
from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.rows.postgres_types import UNKNOWN, PostgresType, postgres_type
from pgpubsub_sql.sql import sqlstate

AnyField: TypeAlias = "Field[Any, Any]"

LOSSY = ("geography", "geometry", "raster", "money")
"""Types that to_jsonb() rounds, or writes in the writer's locale: their columns are deferred."""

# A cast to these would round, or refuse, values of a column that has since been widened.
_LIMITED = re.compile(r"^(varchar|character varying|numeric|decimal)\s*\([^()]*\)")

_VALUE_ERRORS = frozenset({"0A", "22", "23", "42", "54"})
"""SQLSTATE classes that blame the value or its type: unsupported features, data, constraints,
names, limits."""


@dataclass(frozen=True)
class Column:
    """One column that travels."""

    label: str
    """App, model and field, for error messages."""
    name: str
    """Name of the column in PostgreSQL."""
    key: str
    """Its name in JSON, if msgspec takes it; else a substitute."""
    type: PostgresType
    expression: Col
    converters: tuple[Callable[[Any, Col, BaseDatabaseWrapper], Any], ...]
    """Django's, in their order."""
    alias: str
    """Its name in our query, which keeps the column's own name out of SQL."""
    cast: str
    """The type that PostgreSQL reads it as."""
    selection: str
    """How a queryset would select it, with *params*."""
    params: tuple[Any, ...]

    def convert(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """Run Django's converters on the driver's value."""
        try:
            for converter in self.converters:
                value = converter(value, self.expression, connection)
        except db.Error:
            raise
        except Exception as error:  # a custom field's own code, or JSON nested too deeply
            raise PayloadError(f"{self.label}: {brief(error)}") from error
        return value


def column_of(field: AnyField, alias: str, connection: BaseDatabaseWrapper) -> Column | None:
    """Return the column of *field*; None if its JSON cannot be what a queryset selects."""
    name = cast(str, field.column)  # a concrete field has one
    db_type = field.db_parameters(connection)["type"]
    if not db_type or db_type.startswith(LOSSY):
        return None
    selected = selection_of(field, f"r.{alias}", connection)
    if selected is None:
        return None
    return Column(
        label=f"{field.model._meta.label}.{field.name}",
        name=name,
        key=name if _is_key(name) else f"${alias}",
        type=postgres_type(db_type) if selected.sql == f"r.{alias}" else UNKNOWN,
        expression=selected.expression,
        converters=selected.converters,
        alias=alias,
        cast=_LIMITED.sub(r"\1", db_type).replace("%", "%%"),
        selection=selected.sql,
        params=selected.params,
    )


def _is_key(column: str) -> bool:
    """Whether msgspec finds a key of this name: only one that JSON writes without escapes."""
    return column.isprintable() and '"' not in column and "\\" not in column


def read_in_database(
    columns: Sequence[Column], values: Sequence[Any], connection: BaseDatabaseWrapper
) -> Sequence[Any]:
    """Return what a queryset would give for these JSON values: PostgreSQL and the driver read them.

    Raises :class:`PayloadError` for values that PostgreSQL or the driver refuses.
    """
    row = dict(zip((column.alias for column in columns), values, strict=True))
    selections = ", ".join(column.selection for column in columns)
    declarations = ", ".join(f"{column.alias} {column.cast}" for column in columns)
    # Types and selections are the fields' own SQL, names are ours: this holds no value.
    query = (
        f"SELECT {selections} "  # noqa: S608
        f"FROM pg_catalog.jsonb_to_record(%s::pg_catalog.jsonb) AS r({declarations})"
    )
    params = [param for column in columns for param in column.params]
    try:
        # The savepoint protects the surrounding transaction from a refusal.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(query, [*params, msgspec.json.encode(row).decode()])
            return cast("Sequence[Any]", cursor.fetchone())
    except (db.Error, ValueError, OverflowError) as error:
        if isinstance(error, db.Error) and not _blames_value(error):
            raise
        labels = ", ".join(column.label for column in columns)
        raise PayloadError(f"{labels}: {brief(error)}") from error


def _blames_value(error: db.Error) -> bool:
    """Whether the value is to blame, rather than, say, a lost connection."""
    if isinstance(error, transaction.TransactionManagementError):  # its cause is an earlier error
        return False
    return isinstance(error, db.DataError) or sqlstate(error)[:2] in _VALUE_ERRORS
