"""The example payloads that ``manage.py pgpubsub sql`` prints."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from msgspec import Meta

from tests.payloads.declared import Circle, Point, Tree
from tests.payloads.support import EVERYTHING, codec_of

Size = Enum("Size", {"SMALL": "s", "LARGE": "l"})


@pytest.mark.parametrize(
    "annotation",
    [
        *(bool, int, float, str, bytes, Decimal, UUID, dict, list, None, Any),
        *(datetime.date, datetime.time, datetime.datetime, datetime.timedelta),
        *(int | None, str | int, Literal["a", 1], Size, Point, Circle, Tree),
        *(tuple[int, str], tuple[int, ...], list[Point], dict[int, str], set[int]),
        Annotated[str, Meta(min_length=9)],
        Annotated[str, Meta(max_length=2)],
        Annotated[int, Meta(ge=100)],
        Annotated[int, Meta(gt=100)],
        Annotated[int, Meta(lt=-3)],
        Annotated[int, Meta(ge=3, le=3)],
        Annotated[float, Meta(le=-3)],
        Annotated[datetime.datetime, Meta(tz=False)],
        Annotated[datetime.time, Meta(tz=True)],
        Annotated[float, Meta(gt=0, lt=1)],
        Annotated[list[int], Meta(min_length=2)],
    ],
)
def test_examples_of_every_type_can_be_decoded(annotation: Any) -> None:
    """The channel itself can read it."""
    codec = codec_of(annotation)
    shown = codec.example()
    assert shown.keys() == {"x"}
    codec.decode(json.dumps(shown))


def test_an_example_has_the_required_fields() -> None:
    shown = EVERYTHING.example()
    assert shown.keys() == {name for name, one in EVERYTHING.fields.items() if one.required}
    EVERYTHING.decode(json.dumps(shown))


@dataclass
class Chain:
    link: Chain | None


def test_an_example_of_a_recursive_type_ends() -> None:
    assert codec_of(Chain).example() == {"x": {"link": None}}
