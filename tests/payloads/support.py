"""Codecs of one field, and of a field of every type."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC
from typing import Any

from pgpubsub_sql.payloads import Codec
from tests.payloads.declared import Everything


@dataclass
class PostReads:
    model_id: int
    date: datetime.date
    source: str | None = None


READS = Codec(PostReads, "blog.PostReads")
DAY = datetime.date(2026, 1, 31)
TEN = datetime.datetime(2026, 1, 31, 10)
TEN_UTC = TEN.replace(tzinfo=UTC)
EVERYTHING = Codec(Everything, "blog.Everything")


def codec_of(annotation: Any, **default: Any) -> Codec:
    """Return the codec of a channel with the single field ``x``."""
    options = {"x": field(**default)} if default else {}
    return Codec(make_dataclass("One", [("x", annotation)], namespace=options), "blog.One")


def decoded(annotation: object, value: str) -> object:
    return codec_of(annotation).decode(f'{{"x": {value}}}')["x"]


def encoded(annotation: object, value: object) -> str:
    return codec_of(annotation).encode({"x": value})


class Unknown:
    def __repr__(self) -> str:
        return "unknown"
