"""Fields of projects and packages that convert, select or store values in a way of their own."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django.db import OperationalError, models
from django.db.models.expressions import Col


class Celsius:
    def __init__(self, degrees: Decimal) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and self.degrees == other.degrees

    __hash__ = None


class CelsiusField(models.DecimalField):
    """Converts what the driver gives, which must be a Decimal; refuses one value."""

    def from_db_value(self, value: Decimal | None, expression: Any, connection: Any) -> Any:
        assert value is None or type(value) is Decimal
        if value == Decimal("-300"):
            raise LookupError("colder than cold")
        return None if value is None else Celsius(value)

    def get_prep_value(self, value: Any) -> Any:
        return value.degrees if isinstance(value, Celsius) else value


class NothingField(models.TextField):
    """Turns even NULL into something."""

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str:
        return value or "nothing"


class PointField(models.Field):
    """A type of PostgreSQL's that this package knows nothing about."""

    def db_type(self, connection: Any) -> str:
        return "point"


class ShoutedField(models.TextField):
    """Selected through a function, so that what travels is not what a queryset gives."""

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        return f"upper({sql} || %s)", [*params, "!"]


class BitField(models.Field):
    """Its modifier matters: a plain bit holds one."""

    def db_type(self, connection: Any) -> str:
        return "bit(3)"


class NumericField(models.Field):
    """Of any precision, where NaN and the infinities are at home."""

    def db_type(self, connection: Any) -> str:
        return "numeric"


class RealField(models.FloatField):
    """Four bytes."""

    def db_type(self, connection: Any) -> str:
        return "real"


class ZonedTimeField(models.TimeField):
    def db_type(self, connection: Any) -> str:
        return "time with time zone"


class PaddedField(models.CharField):
    def db_type(self, connection: Any) -> str:
        return f"char({self.max_length})"


class PythonOnlyField(models.Field):
    """Converts where forms and fixtures come in, which a queryset never asks for."""

    def db_type(self, connection: Any) -> str:
        return "text"

    def to_python(self, value: Any) -> Any:
        raise AssertionError("a queryset calls from_db_value() alone")


class ExactDecoder(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__(parse_float=Decimal)


class GeometryField(models.Field):
    def db_type(self, connection: Any) -> str:
        return "geometry(POINT,4326)"


class MoneyField(models.Field):
    def db_type(self, connection: Any) -> str:
        return "money"


class PercentField(models.Field):
    def db_type(self, connection: Any) -> str:
        return '"per%cent"'


class MoodField(models.Field):
    """An enumeration of PostgreSQL's."""

    def db_type(self, connection: Any) -> str:
        return "mood"


class Doubled(Col):
    def as_sql(self, compiler: Any, connection: Any) -> Any:
        sql, params = super().as_sql(compiler, connection)
        return f"2 * {sql}", params


class DoubledField(models.IntegerField):
    """Selected as an expression of its own, as encrypted fields are."""

    def get_col(self, alias: str, output_field: Any = None) -> Col:
        return Doubled(alias, self)


class LookedUpField(models.TextField):
    def from_db_value(self, value: str, expression: Any, connection: Any) -> str:
        raise OperationalError("the connection is lost")


class CITextField(models.TextField):
    def db_type(self, connection: Any) -> str:
        return "citext"
