"""How the values of a database type travel."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Raw

from pgpubsub_sql.rows import readers
from pgpubsub_sql.rows.readers import Reader


@dataclass(frozen=True)
class Wire:
    """How the values of one database type travel."""

    type: Any
    """What msgspec reads; None travels besides."""
    read: Reader | None = None
    """What is left to do then."""


UNKNOWN = Wire(Raw, readers.leave)
_RANGE_OF_DATES = Wire(Raw, readers.leave_iso)

WIRES: Mapping[str, Wire] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), Wire(int)),
    **dict.fromkeys(("smallserial", "serial", "bigserial"), Wire(int)),
    **dict.fromkeys(("varchar", "character varying", "text", "char", "citext"), Wire(str)),
    **dict.fromkeys(("numeric", "decimal"), Wire(Decimal)),
    **dict.fromkeys(
        ("real", "double precision"),
        Wire(float | Literal["NaN", "Infinity", "-Infinity"], readers.as_float),
    ),
    **dict.fromkeys(
        ("timestamp with time zone", "timestamptz", "timestamp"), Wire(str, readers.as_datetime)
    ),
    **dict.fromkeys(("daterange", "tsrange", "tstzrange"), _RANGE_OF_DATES),
    "boolean": Wire(bool),
    "bytea": Wire(str, readers.as_bytes),
    "date": Wire(str, readers.as_date),
    "hstore": Wire(dict[str, str | None]),
    "inet": Wire(str),
    "interval": Wire(str, readers.as_interval),
    "jsonb": Wire(Raw, readers.as_json),
    "time": Wire(str, readers.as_time),
    "uuid": Wire(uuid.UUID),
}

_DIMENSION = re.compile(r"\[\d*\]")
_MODIFIER = re.compile(r"\s*\([^()]*\)")


def wire_of(db_type: str) -> Wire:
    name = _MODIFIER.sub("", _DIMENSION.sub("", db_type)).strip().lower()
    wire = WIRES.get(name, UNKNOWN)
    dimensions = db_type.count("[")
    if not dimensions or wire in (UNKNOWN, _RANGE_OF_DATES):
        return wire
    nested = wire.type if wire.type is Raw else wire.type | None
    for _ in range(dimensions):
        nested = list[nested]  # type: ignore[valid-type]
    return Wire(Raw, partial(readers.as_array, item=msgspec.json.Decoder(nested), read=wire.read))
