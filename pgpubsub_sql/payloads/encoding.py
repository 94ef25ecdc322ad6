"""Encoding of values as JSON, refusal of what JSON and jsonb cannot carry, and ordering keys."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from django.db.models import Model
from django.utils.functional import Promise

from pgpubsub_sql.sql import holds_nul

_KEPT_TYPES = (bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, Decimal)

_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    str: str.__str__,  # SafeString's own __str__ returns itself
    int: int,
    float: float,
    bytes: bytes,
    Decimal: Decimal,
    datetime.date: lambda value: value.isoformat(),
    datetime.time: lambda value: value.isoformat(),
    datetime.timedelta: lambda v: datetime.timedelta(v.days, v.seconds, v.microseconds),
    Promise: str,
}
"""How subclasses are sent: safe and lazy strings, frozen clocks' datetimes, NumPy's numbers."""

_WHOLE_FLOATS = 2**53
"""Below it, a float without fraction is exactly one integer."""


def _as_plain(value: Any) -> Any:
    """Return the value to encode instead of one whose class msgspec does not know."""
    if isinstance(value, Model):
        raise TypeError(f"a model instance ({type(value).__name__}): send its primary key")
    for kind, plain in _PLAIN.items():
        if isinstance(value, kind):
            return plain(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


encoder = msgspec.json.Encoder(enc_hook=_as_plain)


def refuse_unstorable(text: str, value: Any) -> None:
    """Raise :class:`ValueError` if PostgreSQL's jsonb cannot store *value*, encoded as *text*."""
    if holds_nul(text):
        raise ValueError("it holds a NUL (\\u0000), which PostgreSQL's jsonb refuses: remove it")
    if not _is_finite(as_tree(value)):
        raise ValueError("it holds NaN or an infinity, which JSON cannot carry: send None or text")


def as_tree(value: Any) -> Any:
    """Return *value* with dataclasses, sets and the like converted to dicts and lists."""
    return msgspec.to_builtins(value, builtin_types=_KEPT_TYPES, enc_hook=_as_plain)


def _is_finite(tree: Any) -> bool:
    if isinstance(tree, Mapping):
        return all(map(_is_finite, [*tree, *tree.values()]))
    if isinstance(tree, (list, tuple)):
        return all(map(_is_finite, tree))
    if isinstance(tree, Decimal):
        return tree.is_finite()
    return not isinstance(tree, float) or math.isfinite(tree)


def arrives(sent: Any, arrived: Any) -> bool:
    """Whether the value that *arrived* means the same as the one that was *sent*."""
    return bool(sent == arrived) or _is_same(as_tree(sent), as_tree(arrived))


def _is_same(sent: Any, arrived: Any) -> bool:
    match sent, arrived:
        case dict(), dict():
            return sent.keys() == arrived.keys() and all(
                _is_same(value, arrived[key]) for key, value in sent.items()
            )
        case ((list() | tuple()), (list() | tuple())):
            return len(sent) == len(arrived) and all(map(_is_same, sent, arrived))
        case datetime.datetime(), datetime.datetime():
            # In the hour that clocks repeat, equal times in two zones compare unequal (PEP 495).
            return sent.isoformat() == arrived.isoformat()
    return bool(sent == arrived)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = msgspec.Raw(b"null")


def ordering_key(payload: str, types: Mapping[str, Any]) -> str | None:
    """Return the JSON array of the fields in *types*, in that order; None if there are none.

    Equal values have equal text, however they were sent: a UUID in capitals, a datetime in
    another time zone, ``Decimal("1.50")``, ``1.0`` for ``1``.
    """
    if not types:
        return None
    sent = _fields.decode(payload)
    values = [
        msgspec.json.decode(sent.get(field, _NULL), type=kind) for field, kind in types.items()
    ]
    return encoder.encode(_canonical(as_tree(values))).decode()


def _canonical(value: Any) -> Any:
    match value:
        case dict():
            return {name: _canonical(item) for name, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
        case float() if value.is_integer() and abs(value) < _WHOLE_FLOATS:
            return int(value)
        case Decimal():
            return _shortest(value)
        case datetime.datetime() if value.tzinfo is not None:
            return _in_utc(value)
    return value


def _shortest(number: Decimal) -> str:
    """Return *number* without trailing zeros; ``normalize()`` would round it."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:  # within hours of the calendar's ends
        return moment
