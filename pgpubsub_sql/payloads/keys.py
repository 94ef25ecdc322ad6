"""The ordering key of a message, as it is stored beside it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pgpubsub_sql.payloads.sending import encoder, tree_of

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = msgspec.Raw(b"null")
_EXACT = 2**53
"""Below it a float that is whole is one integer, and no other."""


def key_of(payload: str, types: Mapping[str, Any]) -> str | None:
    """Return the JSON array of the fields that *types* declares; None if there are none.

    Values that are equal are spelled equally, whatever they were sent as: a UUID in capitals, a
    moment in another time zone, ``Decimal("1.50")``, ``1.0`` for ``1``.
    """
    if not types:
        return None
    travelling = _decoder.decode(payload)
    values = [
        msgspec.json.decode(travelling.get(field, _NULL), type=kind)
        for field, kind in types.items()
    ]
    return encoder.encode(_canonical(tree_of(values))).decode()


def _canonical(value: Any) -> Any:
    match value:
        case dict():
            return {name: _canonical(item) for name, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case Decimal():
            return _shortest(value)
        case datetime.datetime() if value.tzinfo is not None:
            return _in_utc(value)
    return value


def _shortest(number: Decimal) -> str:
    """Return *number* without zeros that say nothing. ``normalize()`` would round it."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:  # within hours of the calendar's ends
        return moment
