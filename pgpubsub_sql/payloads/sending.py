"""What JSON and jsonb cannot carry."""

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

_TYPES_KEPT = (bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, Decimal)


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
"""What subclasses are sent as: safe and lazy text, moments of a frozen clock, numbers of NumPy."""


def _spell_special(value: Any) -> Any:
    """Return what is to be encoded in place of a value whose class msgspec does not know."""
    if isinstance(value, Model):
        raise TypeError(f"a model instance ({type(value).__name__}): send its primary key")
    for kind, plain in _PLAIN.items():
        if isinstance(value, kind):
            return plain(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


encoder = msgspec.json.Encoder(enc_hook=_spell_special)


def refuse_unstorable(text: str, value: Any) -> None:
    if holds_nul(text):
        raise ValueError("it holds a NUL (\\u0000), which PostgreSQL's jsonb refuses: remove it")
    if not _is_finite(tree_of(value)):
        raise ValueError("it holds NaN or an infinity, which JSON cannot carry: send None or text")


def tree_of(value: Any) -> Any:
    """Return *value* with its dataclasses, sets and the like as dicts and lists."""
    return msgspec.to_builtins(value, builtin_types=_TYPES_KEPT, enc_hook=_spell_special)


def _is_finite(tree: Any) -> bool:
    if isinstance(tree, Mapping):
        return all(map(_is_finite, [*tree, *tree.values()]))
    if isinstance(tree, (list, tuple)):
        return all(map(_is_finite, tree))
    if isinstance(tree, Decimal):
        return tree.is_finite()
    return not isinstance(tree, float) or math.isfinite(tree)


def arrives(sent: Any, arrived: Any) -> bool:
    """Whether what arrived says what was sent."""
    return bool(sent == arrived) or _same(tree_of(sent), tree_of(arrived))


def _same(sent: Any, arrived: Any) -> bool:
    match sent, arrived:
        case dict(), dict():
            return sent.keys() == arrived.keys() and all(
                _same(value, arrived[key]) for key, value in sent.items()
            )
        case ((list() | tuple()), (list() | tuple())):
            return len(sent) == len(arrived) and all(map(_same, sent, arrived))
        case datetime.datetime(), datetime.datetime():
            # In the hour that clocks repeat, equal times of two zones are unequal (PEP 495).
            return sent.isoformat() == arrived.isoformat()
    return bool(sent == arrived)
