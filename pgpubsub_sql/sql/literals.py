"""Python values as SQL literals, the same under both drivers and any settings of a session.

A type is named only where the driver would name it. Other literals take their type from what they
are compared with, as in Django's own queries.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import RANGE_TYPES, Inet, Jsonb
from django.utils import timezone

from pgpubsub_sql.errors import ConditionError
from pgpubsub_sql.sql.quoting import holds_nul, quote_literal


def literal(value: object) -> str:
    """Return *value*, a parameter that Django passes to a driver, as SQL.

    >>> literal(["it's", None])
    "ARRAY['it''s', NULL]"

    A datetime without a zone is in ``settings.TIME_ZONE``, as in Django's own sessions.

    Raises :class:`ConditionError` for types without a literal, :class:`TemplateError` for text that
    PostgreSQL cannot contain.
    """
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value)
    raise ConditionError(
        f"{value!r} of type {type(value).__name__} has no literal in SQL: compare with a value "
        "of another type, or let the listener compare."
    )


def _number(value: int | decimal.Decimal | float) -> str:
    text = str(value)
    # A cast or an operator that follows would bind tighter than the sign.
    return f"({text})" if text.startswith("-") else text


def _real(value: decimal.Decimal | float) -> str:
    if math.isfinite(value):
        return _number(value)
    return _typed(str(value), "numeric" if isinstance(value, decimal.Decimal) else "float8")


def _typed(text: str, kind: str) -> str:
    return f"{quote_literal(text)}::{kind}"


def _datetime(value: datetime.datetime) -> str:
    if timezone.is_aware(value):
        return value.isoformat(" ")
    return f"{value.isoformat(' ')} {timezone.get_default_timezone_name()}"


def _time(value: datetime.time) -> str:
    if value.tzinfo is not None:
        raise ConditionError(
            f"{value!r} has a time zone, and PostgreSQL's time has none: remove it."
        )
    return _typed(value.isoformat(), "time")


def _interval(value: datetime.timedelta) -> str:
    # A sign for each part: IntervalStyle decides which parts a single sign belongs to.
    parts = f"{value.days:+} days {value.seconds:+} seconds {value.microseconds:+} microseconds"
    return _typed(parts, "interval")


def _bytes(value: Any) -> str:
    return _typed(f"\\x{bytes(value).hex()}", "bytea")


def _inet(value: Any) -> str:
    address = ipaddress.ip_address(getattr(value, "addr", value))
    # The text of IPv6 addresses depends on the version of Python.
    text = str(address) if address.version == 4 else address.packed.hex(":", 2)
    return _typed(text, "inet")


def _wrapped(value: Any) -> Any:
    """Return the value that psycopg2 or psycopg 3 has wrapped."""
    return value.adapted if hasattr(value, "adapted") else value.obj


def _json(value: Any) -> str:
    """Return a jsonb parameter of Django's, written by the encoder of its field."""
    wrapped = _wrapped(value)
    dumps = value.dumps or json.dumps
    try:
        decoded = json.loads(dumps(wrapped), parse_constant=_refuse_constant)
        text = json.dumps(decoded, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConditionError(f"{wrapped!r} is not JSON that PostgreSQL accepts: {error}") from error
    if holds_nul(text):
        raise ConditionError(f"{wrapped!r} contains a NUL, which PostgreSQL's text cannot hold.")
    return _typed(text, "jsonb")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}.")


def _sequence(values: Sequence[Any]) -> str:
    if not _has_elements(values):
        return "'{}'"
    return f"ARRAY[{', '.join(map(literal, values))}]"


def _has_elements(values: Any) -> bool:
    if not isinstance(values, (list, tuple)):
        return True
    return any(map(_has_elements, values))


def _hstore(values: Mapping[str, str | None]) -> str:
    pairs = (
        f"{_escaped(key)}=>{'NULL' if value is None else _escaped(value)}"
        for key, value in values.items()
    )
    return quote_literal(", ".join(pairs))


def _escaped(text: object) -> str:
    """Return *text* quoted for the inside of a range's or an hstore's literal."""
    return '"{}"'.format(str(text).replace("\\", "\\\\").replace('"', '\\"'))


def _range(value: Any) -> str:
    if value.isempty:
        return "'empty'"
    lower, upper = (_bound(bound) for bound in (value.lower, value.upper))
    brackets = "[" if value.lower_inc else "(", "]" if value.upper_inc else ")"
    return quote_literal(f"{brackets[0]}{lower},{upper}{brackets[1]}")


def _bound(value: Any) -> str:
    if value is None:
        return ""
    is_moment = isinstance(value, datetime.datetime)
    return _escaped(_datetime(value) if is_moment else value)


_BINARY: type = base.Database.Binary  # type: ignore[attr-defined]  # the driver in use

# psycopg2 has a class for addresses; with psycopg 3 Django uses Python's.
_OF_PSYCOPG2 = (Inet,) if isinstance(Inet, type) else ()
_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address, *_OF_PSYCOPG2)

_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (type(None), lambda value: "NULL"),
    (enum.Enum, lambda value: literal(value.value)),
    (bool, lambda value: "true" if value else "false"),
    (int, lambda value: _number(int(value))),
    ((float, decimal.Decimal), _real),
    (str, lambda value: quote_literal(str(value))),
    (datetime.datetime, lambda value: _typed(_datetime(value), "timestamptz")),
    (datetime.date, lambda value: _typed(value.isoformat(), "date")),
    (datetime.time, _time),
    (datetime.timedelta, _interval),
    (uuid.UUID, lambda value: _typed(str(value), "uuid")),
    ((bytes, bytearray, memoryview), _bytes),
    (_BINARY, lambda value: _bytes(_wrapped(value))),
    (_ADDRESSES, _inet),
    (Jsonb, _json),
    (RANGE_TYPES, _range),
    ((list, tuple), _sequence),
    (Mapping, _hstore),
)
"""Every type that reaches a driver; the first that matches is used."""
