"""Values that are accepted or refused for sending, and the messages of the errors."""

from __future__ import annotations

import datetime
import math
import uuid
import zoneinfo
from collections import Counter
from dataclasses import dataclass, make_dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from django.db.models import Model
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.payloads import Codec
from tests.payloads import declared as eager
from tests.payloads.declared import Point
from tests.payloads.support import (
    DAY,
    READS,
    TEN,
    Unknown,
    encoded,
)

NOW_IN_THE_HOUR_THAT_REPEATS = datetime.datetime(
    2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")
)


class FrozenDate(datetime.date): ...


class FrozenMoment(datetime.datetime): ...


class FrozenTime(datetime.time): ...


class Pause(timedelta): ...


class Count(int): ...


class Measure(float): ...


class Price(Decimal): ...


class Blob(bytes): ...


@pytest.mark.parametrize(
    ("kind", "value", "json_text"),
    [
        (float, 5, "5"),
        (datetime.date, "2026-01-31", '"2026-01-31"'),
        (uuid.UUID, str(uuid.UUID(int=1)), f'"{uuid.UUID(int=1)}"'),
        (Decimal, "1.10", '"1.10"'),
        (Decimal, 5, "5"),
        (Decimal, Decimal("1E+400"), '"1E+400"'),
        (list[int], (1, 2), "[1,2]"),
        (set[int], [2, 1, 2], "[2,1,2]"),
        (tuple[int, ...], [1, 2], "[1,2]"),
        (Point, {"x": 1}, '{"x":1}'),
        (str, mark_safe("<b>"), '"<b>"'),
        (str, lazystr("lazy"), '"lazy"'),
        (str, "Infinity", '"Infinity"'),
        (str, eager.Status.DRAFT, '"d"'),
        (eager.Status, "d", '"d"'),
        (int, eager.Priority.HIGH, "2"),
        (dict[str, int], Counter("a"), '{"a":1}'),
        (datetime.date, FrozenDate(2026, 1, 31), '"2026-01-31"'),
        (datetime.datetime, FrozenMoment(2026, 1, 31, 10), '"2026-01-31T10:00:00"'),
        (list[datetime.datetime], [FrozenMoment(2026, 1, 31, 10)], '["2026-01-31T10:00:00"]'),
        (datetime.time, FrozenTime(10), '"10:00:00"'),
        (timedelta, Pause(1, 2), '"P1DT2S"'),
        (int, Count(2**70), str(2**70)),
        (float, Measure(1.5), "1.5"),
        (Decimal, Price("1.10"), '"1.10"'),
        (bytes, Blob(b"\0"), '"AA=="'),
        (list[datetime.datetime], [NOW_IN_THE_HOUR_THAT_REPEATS], '["2026-10-25T02:30:00+01:00"]'),
    ],
)
def test_values_convertible_to_the_declared_type_are_accepted(
    kind: Any, value: Any, json_text: str
) -> None:
    """Subclasses too: what freezegun's clock gives, or an enumeration of Django's."""
    assert encoded(kind, value) == f'{{"x":{json_text}}}'
    beside = Codec(make_dataclass("Two", [("x", kind), ("y", list)]), "blog.Two")
    assert beside.encode({"x": value, "y": (1,)}) == f'{{"x":{json_text},"y":[1]}}'


@dataclass
class Bag:
    items: set[int]


def test_the_order_of_a_set_does_not_matter() -> None:
    shrunk = set(range(200))
    shrunk &= {5, 129}  # iterates in another order than a set made of 5 and 129
    assert encoded(tuple[datetime.date, Bag], ("2026-01-31", Bag(shrunk)))


@dataclass
class Point3D(Point):
    z: int = 0


ENDLESS_LIST: list[Any] = []
ENDLESS_LIST.append(ENDLESS_LIST)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "abc", "Expected `int`, got `str`"),
        (int, "5", "Expected `int`, got `str`"),
        (int, True, "Expected `int`, got `bool`"),
        (int, 1.5, "Expected `int`, got `float`"),
        (int, None, "Expected `int`, got `null`"),
        (bool, 1, "Expected `bool`, got `int`"),
        (str, 5, "Expected `str`, got `int`"),
        (str, b"a", "Expected `str`, got `bytes`"),
        (str, DAY, "Expected `str`, got `date`"),
        (str, uuid.UUID(int=1), "Expected `str`, got `uuid`"),
        (datetime.date, TEN, "Invalid .* date"),
        (datetime.datetime, DAY, "Invalid .* datetime"),
        (list[int], [1, "a"], r"Expected `int`, got `str` - at `\$\[1\]`"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "Expected `int` >= 1"),
        (Literal["a"], "b", "Invalid enum value 'b'"),
        (Any, Unknown(), "a Unknown has no JSON form"),
        (list, [1j], "a complex has no JSON form"),
        (int, Model.__new__(Model), "a model instance .* send its primary key"),
        (list, [Model.__new__(Model)], "a model instance .* send its primary key"),
        (dict, {(1, 2): 3}, "a tuple has no JSON form"),
        (Any, ENDLESS_LIST, "recursion"),
        (Any, DAY, "would arrive changed, as '2026-01-31'"),
        (dict, {1: 2}, "would arrive changed, as {'1': 2}"),
        (dict, {1: 2, "1": 3}, "would arrive changed"),
        (Point, Point3D(1, z=2), "got `Point3D`"),
        (datetime.datetime, TEN.replace(tzinfo=datetime.timezone(timedelta(seconds=30))),
         "would arrive changed"),
        (str, "\ud800", "surrogates not allowed"),
        (str, "a\x00b", "NUL .* jsonb refuses: remove it"),
        (dict, {"a": ["\x00"]}, "NUL"),
        (dict, {"\x00": 1}, "NUL"),
        (list[Point], [Point("\x00")], "NUL"),
    ],
)  # fmt: skip
def test_values_that_would_arrive_changed_are_refused(kind: Any, value: Any, words: str) -> None:
    """P20 and P21: the sender learns it, with channel, field and declared type."""
    with pytest.raises(PayloadError, match=words) as caught:
        encoded(kind, value)
    assert str(caught.value).startswith("blog.One: field 'x'")
    assert " x: " in str(caught.value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        (float, lambda n: n),
        (float | None, lambda n: n),
        (Any, lambda n: n),
        (list[float | None], lambda n: [n]),
        (dict, lambda n: {"a": [{"b": n}]}),
        (dict[float, int], lambda n: {n: 1}),
        (Point, lambda n: Point(1, n)),
        (Decimal, Decimal),
        (Decimal, lambda n: Decimal("sNaN")),
        (list[Decimal], lambda n: [Decimal(n)]),
        (Any, lambda n: (n,)),
    ],
)
def test_nan_and_infinities_are_refused(number: float, kind: Any, wrap: Any) -> None:
    """P21: they would become null, or text."""
    with pytest.raises(PayloadError, match=r"field 'x'.*(NaN or an infinity|convert signaling)"):
        encoded(kind, wrap(number))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "blog.PostReads: missing 'model_id', 'date'. It takes {model_id: int, "),
        ({"model_id": 1}, "blog.PostReads: missing 'date'."),
        ({"modle_id": 1}, "blog.PostReads has no field 'modle_id': did you mean 'model_id'?"),
        ({"zzz": 1}, "blog.PostReads has no field 'zzz': It takes {model_id: int"),
    ],
)
def test_names_are_checked(values: dict[str, Any], words: str) -> None:
    with pytest.raises(PayloadError) as caught:
        READS.encode(values)
    assert str(caught.value).startswith(words)


def test_errors_quote_little_of_a_huge_value() -> None:
    with pytest.raises(PayloadError, match="Invalid enum value 'x") as caught:
        encoded(Literal["a"], "x" * 1_000_000)
    assert len(str(caught.value)) < 1000
    with pytest.raises(PayloadError, match="would arrive changed") as caught:
        encoded(dict, {1: "x" * 1_000_000})
    assert len(str(caught.value)) < 1000
