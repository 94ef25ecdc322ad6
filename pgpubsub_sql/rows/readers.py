"""What JSON spells differently becomes the value the database driver would have given."""

from __future__ import annotations

import binascii
import datetime
import re
import zoneinfo
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import is_psycopg3
from msgspec import UNSET, Raw, UnsetType

from pgpubsub_sql.sql import read_interval

Reader: TypeAlias = Callable[[Any, BaseDatabaseWrapper], Any]
"""From msgspec's value to the driver's. UNSET defers the column; a ValueError or OverflowError
leaves the value to PostgreSQL."""


def _text(value: Raw) -> str | None:
    text = str(cast(bytes, value), "utf-8")
    return None if text == "null" else text


def leave(value: Raw, connection: BaseDatabaseWrapper) -> None:
    if _text(value) is not None:
        raise ValueError("only PostgreSQL can read this type")


# A range of dates is written in the writer's DateStyle. ISO means the same everywhere; 01/02/2026,
# 01-02-2026, 01.02.2026 and "Thu Jan  1" do not.
_NOT_ISO = re.compile(r"/|\b\d\d[.-]\d\d[.-]\d{4}|[A-Z][a-z]{2} ")


def leave_iso(value: Raw, connection: BaseDatabaseWrapper) -> UnsetType | None:
    if _NOT_ISO.search(_text(value) or ""):
        return UNSET
    leave(value, connection)
    return None


def as_json(value: Raw, connection: BaseDatabaseWrapper) -> str | None:
    return _text(value)  # JSONField parses it: floats, long integers and decoders are its matter


def as_float(value: Any, connection: BaseDatabaseWrapper) -> float:
    return float(value)  # NaN and the infinities travel as strings; jsonb knows no -0.0


def as_date(value: str, connection: BaseDatabaseWrapper) -> datetime.date:
    return datetime.date.fromisoformat(value)


def as_time(value: str, connection: BaseDatabaseWrapper) -> datetime.time:
    return datetime.time.fromisoformat(value)


def as_datetime(value: str, connection: BaseDatabaseWrapper) -> datetime.datetime:
    """A moment is written in the writer's time zone, and read in the connection's."""
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:  # a column without time zone
        return moment
    if connection.timezone is not None:
        return moment.astimezone(connection.timezone)
    here = zoneinfo.ZoneInfo(connection.timezone_name)  # USE_TZ = False
    return moment.astimezone(here).replace(tzinfo=None)


def as_interval(value: str, connection: BaseDatabaseWrapper) -> datetime.timedelta:
    years, months, rest = read_interval(value)
    # A year is 365 days and a month 30, as both drivers have it.
    return datetime.timedelta(days=365 * years + 30 * months) + rest


def as_bytes(value: str, connection: BaseDatabaseWrapper) -> bytes | memoryview:
    if not value.startswith("\\x"):
        raise ValueError("written with bytea_output = 'escape'")
    content = binascii.unhexlify(value[2:])
    return content if is_psycopg3 else memoryview(content)


def as_array(value: Raw, connection: BaseDatabaseWrapper, *, item: Any, read: Reader | None) -> Any:
    # PostgreSQL does not enforce the dimensions that a column declares: it reads all others.
    items = None if _text(value) is None else item.decode(value)
    return items if read is None else _each(items, read, connection)


def _each(value: Any, read: Reader, connection: BaseDatabaseWrapper) -> Any:
    if isinstance(value, list):
        return [_each(item, read, connection) for item in value]
    return None if value is None else read(value, connection)
