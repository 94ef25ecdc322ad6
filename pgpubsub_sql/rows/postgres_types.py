"""How values of each PostgreSQL type are read from the JSON of a row.

To support another type, or another name of one, add it to :data:`POSTGRES_TYPES`. A name that can
limit values, such as ``varchar(9)``, also belongs in ``_LIMITED`` in ``columns.py``.
"""

from __future__ import annotations

import binascii
import datetime
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec import UNSET, Raw, UnsetType

from pgpubsub_sql.django_internals import as_read, is_psycopg3
from pgpubsub_sql.sql import read_interval

Reader: TypeAlias = Callable[[Any, BaseDatabaseWrapper], Any]
"""Turns msgspec's value into the database driver's. UNSET defers the column; after a ValueError or
an OverflowError PostgreSQL reads the value instead."""


@dataclass(frozen=True)
class PostgresType:
    """How values of one PostgreSQL type are read."""

    json_type: Any
    """The type that msgspec parses; every column may also be null."""
    read: Reader | None = None
    """Makes the parsed value what the driver would return; None if it is that already."""


def _text(value: Raw) -> str | None:
    text = str(cast(bytes, value), "utf-8")
    return None if text == "null" else text


def _leave_to_database(value: Raw, connection: BaseDatabaseWrapper) -> None:
    if _text(value) is not None:
        raise ValueError("only PostgreSQL can read this type")


# The dates in a range follow the writer's DateStyle. ISO dates are unambiguous; 01/02/2026,
# 01-02-2026, 01.02.2026 and "Thu Jan  1" are not.
_NOT_ISO = re.compile(r"/|\b\d\d[.-]\d\d[.-]\d{4}|[A-Z][a-z]{2} ")


def _leave_iso_dates(value: Raw, connection: BaseDatabaseWrapper) -> UnsetType | None:
    if _NOT_ISO.search(_text(value) or ""):
        return UNSET
    _leave_to_database(value, connection)
    return None


def _read_json(value: Raw, connection: BaseDatabaseWrapper) -> str | None:
    return _text(value)  # JSONField parses it, with its own decoder


def _read_float(value: Any, connection: BaseDatabaseWrapper) -> float:
    return float(value)  # NaN and the infinities travel as strings; jsonb has no -0.0


def _read_date(value: str, connection: BaseDatabaseWrapper) -> datetime.date:
    return datetime.date.fromisoformat(value)


def _read_time(value: str, connection: BaseDatabaseWrapper) -> datetime.time:
    return datetime.time.fromisoformat(value)


def _read_datetime(value: str, connection: BaseDatabaseWrapper) -> datetime.datetime:
    """Move a timestamp from the writer's time zone to the connection's."""
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:  # a column without time zone
        return moment
    return as_read(moment, connection)


def _read_interval(value: str, connection: BaseDatabaseWrapper) -> datetime.timedelta:
    years, months, rest = read_interval(value)
    # Both drivers count a year as 365 days and a month as 30.
    return datetime.timedelta(days=365 * years + 30 * months) + rest


def _read_bytes(value: str, connection: BaseDatabaseWrapper) -> bytes | memoryview:
    if not value.startswith("\\x"):
        raise ValueError("written with bytea_output = 'escape'")
    content = binascii.unhexlify(value[2:])
    return content if is_psycopg3 else memoryview(content)


def _read_array(
    value: Raw, connection: BaseDatabaseWrapper, *, decoder: Any, read: Reader | None
) -> Any:
    # PostgreSQL does not enforce declared dimensions: it reads arrays that have others.
    items = None if _text(value) is None else decoder.decode(value)
    return items if read is None else _read_items(items, read, connection)


def _read_items(value: Any, read: Reader, connection: BaseDatabaseWrapper) -> Any:
    if isinstance(value, list):
        return [_read_items(item, read, connection) for item in value]
    return None if value is None else read(value, connection)


UNKNOWN = PostgresType(Raw, _leave_to_database)
"""Any other type: PostgreSQL reads it."""
_RANGE_OF_DATES = PostgresType(Raw, _leave_iso_dates)

POSTGRES_TYPES: Mapping[str, PostgresType] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), PostgresType(int)),
    **dict.fromkeys(("smallserial", "serial", "bigserial"), PostgresType(int)),
    **dict.fromkeys(("varchar", "character varying", "text", "char", "citext"), PostgresType(str)),
    **dict.fromkeys(("numeric", "decimal"), PostgresType(Decimal)),
    **dict.fromkeys(
        ("real", "double precision"),
        PostgresType(float | Literal["NaN", "Infinity", "-Infinity"], _read_float),
    ),
    **dict.fromkeys(
        ("timestamp with time zone", "timestamptz", "timestamp"), PostgresType(str, _read_datetime)
    ),
    **dict.fromkeys(("daterange", "tsrange", "tstzrange"), _RANGE_OF_DATES),
    "boolean": PostgresType(bool),
    "bytea": PostgresType(str, _read_bytes),
    "date": PostgresType(str, _read_date),
    "hstore": PostgresType(dict[str, str | None]),
    "inet": PostgresType(str),
    "interval": PostgresType(str, _read_interval),
    "jsonb": PostgresType(Raw, _read_json),
    "time": PostgresType(str, _read_time),
    "uuid": PostgresType(uuid.UUID),
}
"""Types by their names in DDL, as ``Field.db_parameters()`` returns them, without modifiers."""

_DIMENSION = re.compile(r"\[\d*\]")
_MODIFIER = re.compile(r"\s*\([^()]*\)")


def postgres_type(db_type: str) -> PostgresType:
    """Return how to read values of a column declared as *db_type*, such as ``varchar(9)[]``."""
    name = _MODIFIER.sub("", _DIMENSION.sub("", db_type)).strip().lower()
    item = POSTGRES_TYPES.get(name, UNKNOWN)
    dimensions = db_type.count("[")
    if not dimensions or item in (UNKNOWN, _RANGE_OF_DATES):
        return item
    nested = item.json_type if item.json_type is Raw else item.json_type | None
    for _ in range(dimensions):
        nested = list[nested]  # type: ignore[valid-type]
    decoder = msgspec.json.Decoder(nested)
    return PostgresType(Raw, partial(_read_array, decoder=decoder, read=item.read))
