"""Definitions of channels, and their problems."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pytest
from django.db.models import Model

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.payloads import Codec, definition_problems
from tests.payloads import declared as eager
from tests.payloads.declared import Everything, Line, Point, Tree
from tests.payloads.support import (
    EVERYTHING,
    READS,
    PostReads,
    Unknown,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def test_defaults_are_those_of_the_dataclass() -> None:
    @dataclass
    class Event:
        options: ClassVar[dict[str, int]] = {"not": 1}
        made: list[int] = field(default_factory=lambda: [1])
        absent: int = None  # type: ignore[assignment]
        computed: int = field(default=7, init=False)
        _: int = field(default=3, kw_only=True)

    codec = Codec(Event, "blog.Event")
    assert codec.encode({}) == '{"made":[1],"absent":null,"_":3}'
    first, second = codec.decode("{}"), codec.decode("{}")
    assert first == {"made": [1], "absent": None, "_": 3}
    assert first["made"] is not second["made"]
    assert codec.decode('{"absent": null, "computed": 1}')["absent"] is None
    assert Event(**first) == Event()


def test_fields_are_inherited() -> None:
    @dataclass
    class Detailed(PostReads):
        """Adds a field, and another default."""

        source: str | None = "web"
        extra: int = 1

    class Renamed(Detailed):
        channel_name = "other"

    codec = Codec(Renamed, "other")
    assert list(codec.fields) == ["model_id", "date", "source", "extra"]
    assert definition_problems(Renamed, "other") == []


def test_a_class_without_fields_is_a_channel() -> None:
    class Ping:
        retry = 5

    codec = Codec(Ping, "blog.Ping")
    assert codec.encode({}) == "{}"
    assert codec.decode('{"more": 1}') == {}


def test_schema_is_json_schema_with_required_fields() -> None:
    statuses = {"title": "Status", "enum": ["d", "s"]}
    assert (
        statuses in EVERYTHING.schema()["$defs"].values()
        or statuses == (EVERYTHING.schema()["$defs"]["Everything"]["properties"]["status"])
    )
    schema = READS.schema()
    assert schema["title"] == "blog.PostReads"
    assert schema["$defs"]["PostReads"]["required"] == ["model_id", "date"]
    assert json.loads(json.dumps(EVERYTHING.schema()))["title"] == "blog.Everything"


class Undecorated(PostReads):
    extra: int
    option: ClassVar[int] = 1


class Overriding(PostReads):
    model_id: str  # type: ignore[assignment]


@dataclass
class Initialised:
    x: InitVar[int]


@dataclass
class TypesOnly:
    author: User


@dataclass
class Misspelled:
    x: datetime.dat  # type: ignore[name-defined]


@dataclass
class Ambiguous:
    ok: int
    x: datetime.date | datetime.datetime


@dataclass
class Nested:
    x: list[Ambiguous]


@dataclass
class Foreign:
    x: dict[str, list[Unknown | None]]


@dataclass
class Related:
    x: list[Model | None]


@dataclass
class UnsafeDefault:
    x: Line = Line(Point(1), Point(2))  # noqa: RUF009


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (Undecorated, "c: 'extra' is annotated in Undecorated, which .* with @dataclass"),
        (Overriding, "c: 'model_id' is annotated in Overriding, .* with @dataclass"),
        (Initialised, "c: field 'x' is an InitVar, .* make it an ordinary field"),
        (TypesOnly, "c: the type of field 'author' cannot .*'User'.* not only under TYPE_CHECKING"),
        (Misspelled, "c: the type of field 'x' cannot be resolved .*'dat'"),
        (Ambiguous, "c: field 'x' cannot be decoded: Type unions .* Declare"),
        (Nested, "c: field 'x' cannot be decoded: Type unions .* Declare"),
        (Foreign, "c: field 'x' has the type Unknown, .* use plain types"),
        (Related, "c: field 'x' is the model Model: declare its primary key"),
        (UnsafeDefault, "c: .*default_factory"),
    ],
)
def test_problems_name_channel_field_and_remedy(channel: type, words: str) -> None:
    """P20: said by Django's checks, not by the first message."""
    (found,) = definition_problems(channel, "c")
    assert re.match(words, found), found
    with pytest.raises(PayloadError, match="c: "):
        Codec(channel, "c")


@pytest.mark.parametrize("channel", [PostReads, Everything, Tree, eager.PostReads])
def test_sound_definitions_have_no_problems(channel: type) -> None:
    assert definition_problems(channel, "c") == []
