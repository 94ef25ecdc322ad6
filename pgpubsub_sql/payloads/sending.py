"""What JSON and jsonb cannot carry."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from django.db.models import Model
from django.utils.functional import Promise

from pgpubsub_sql.sql import holds_nul

_TYPES_KEPT = (bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, Decimal)


def _spell_special(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # SafeString's own __str__ returns itself
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Model):
        raise TypeError(f"a model instance ({type(value).__name__}): send its primary key")
    raise TypeError(f"a {type(value).__name__} has no JSON form")


encoder = msgspec.json.Encoder(enc_hook=_spell_special)


def refuse_unstorable(text: str, value: Any) -> None:
    if holds_nul(text):
        raise ValueError("NUL (\\u0000), which PostgreSQL's jsonb refuses: remove it")
    if not _is_finite(tree_of(value)):
        raise ValueError("NaN or an infinity, which JSON cannot carry: send None or text")


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


def same(sent: Any, arrived: Any) -> bool:
    match sent, arrived:
        case dict(), dict():
            return sent.keys() == arrived.keys() and all(
                same(value, arrived[key]) for key, value in sent.items()
            )
        case ((list() | tuple()), (list() | tuple())):
            return len(sent) == len(arrived) and all(map(same, sent, arrived))
        case datetime.datetime(), datetime.datetime():
            # In the hour that clocks repeat, equal times of two zones are unequal (PEP 495).
            return sent.isoformat() == arrived.isoformat()
    return bool(sent == arrived)
