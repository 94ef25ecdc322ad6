"""One column of a model's row: what msgspec reads of it, and what is left to do then."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from django import db
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field
from django.db.models.expressions import Col
from django.db.models.sql import Query

from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.rows.wires import UNKNOWN, Wire, wire_of

AnyField: TypeAlias = "Field[Any, Any]"

# to_jsonb() rounds the coordinates of these, or writes them in the language of the writer.
LOSSY = ("geography", "geometry", "raster", "money")

# Casting to these would round, or refuse, what a column has held since it was widened.
_LIMITED = re.compile(r"^(varchar|character varying|numeric|decimal)\s*\([^()]*\)")


@dataclass(frozen=True)
class Column:
    """One column that travels, and what is left to do when msgspec has read it."""

    label: str
    name: str
    key: str
    wire: Wire
    expression: Col
    converters: tuple[Callable[[Any, Col, BaseDatabaseWrapper], Any], ...]
    alias: str
    """Its name in our query: whatever the column's own name holds stays out of SQL."""
    cast: str
    selection: str
    """How a queryset would select it from there, with its parameters."""
    params: tuple[Any, ...]

    def convert(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        try:
            for converter in self.converters:
                value = converter(value, self.expression, connection)
        except db.Error:
            raise
        except Exception as error:  # a custom field's own code, or JSON nested too deeply
            raise PayloadError(f"{self.label}: {brief(error)}") from error
        return value


def column_of(field: AnyField, alias: str, connection: BaseDatabaseWrapper) -> Column | None:
    """Plan a field's column; None if what travels cannot be what a queryset selects."""
    name = cast(str, field.column)  # a concrete field has one
    expression = field.get_col(field.model._meta.db_table)
    db_type = field.db_parameters(connection)["type"]
    if type(expression) is not Col or not db_type or db_type.startswith(LOSSY):
        return None
    compiler = Query(field.model).get_compiler(connection=connection)
    sql, params = expression.select_format(compiler, f"r.{alias}", ())
    return Column(
        label=f"{field.model._meta.label}.{field.name}",
        name=name,
        key=name if _is_key(name) else f"${alias}",
        wire=wire_of(db_type) if sql == f"r.{alias}" else UNKNOWN,
        expression=expression,
        converters=(
            *connection.ops.get_db_converters(expression),
            *expression.get_db_converters(connection),
        ),
        alias=alias,
        cast=_LIMITED.sub(r"\1", db_type).replace("%", "%%"),
        selection=sql,
        params=tuple(params),
    )


def _is_key(column: str) -> bool:
    """Whether msgspec takes a name as it is: only those that JSON writes without escapes."""
    return column.isprintable() and '"' not in column and "\\" not in column
