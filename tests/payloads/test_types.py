"""Values arrive equal to those sent, and of the same type."""

from __future__ import annotations

import datetime
import json
import typing
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.payloads import Codec
from tests.payloads import declared as eager
from tests.payloads.declared import Circle, Everything, Line, Point, Span, Tree, Wait
from tests.payloads.support import DAY, EVERYTHING, TEN, codec_of, decoded, encoded


@pytest.mark.parametrize(
    ("annotation", "json_text", "value"),
    [
        (int, "123456789012345678901234567890", 123456789012345678901234567890),
        (float, "1.5", 1.5),
        (float, "5", 5.0),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, '"1.10"', Decimal("1.10")),
        (Decimal, "12345678901234567890.123456789", Decimal("12345678901234567890.123456789")),
        (dict, '{"price": 1.5}', {"price": 1.5}),
        (dict[str, Any], '{"price": 1.5, "n": [1, null]}', {"price": 1.5, "n": [1, None]}),
        (list, '[1, "a", 1.5]', [1, "a", 1.5]),
        (Any, "12345678901234567890123", 12345678901234567890123),
        (uuid.UUID, f'"{uuid.UUID(int=1)}"', uuid.UUID(int=1)),
        (int | None, "null", None),
        (Literal["a", 1], "1", 1),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (list[list[int]], "[[1], []]", [[1], []]),
        (dict[int, str], '{"1": "a"}', {1: "a"}),
    ],
)
def test_types_are_exact(annotation: object, json_text: str, value: object) -> None:
    """P20 and P21."""
    found = decoded(annotation, json_text)
    assert found == value
    assert type(found) is type(value)
    assert str(found) == str(value)  # Decimal("1.10") == Decimal("1.1")


# Every type of msgspec's.


def kinds(node: Any, seen: set[int]) -> Iterator[str]:
    """The names of the kinds of types within a type, which may be recursive."""
    if isinstance(node, tuple):
        for part in node:
            yield from kinds(part, seen)
    elif isinstance(node, inspect.Type | inspect.Field) and id(node) not in seen:
        seen.add(id(node))
        yield type(node).__name__
        yield from kinds(msgspec.structs.astuple(node), seen)


UNTRIED = {
    "Type": "a base class",
    "CollectionType": "a base class",
    "ExtType": "MessagePack's own",
    "FrozenDictType": "comes with Python 3.15",
}


def test_every_msgspec_type_is_tested_here() -> None:
    """So that one that msgspec adds fails here instead of being forgotten."""
    known = {
        name
        for name, kind in vars(inspect).items()
        if isinstance(kind, type) and issubclass(kind, inspect.Type)
    }
    tried = set(kinds(inspect.multi_type_info([Everything, eager.Buffers]), set()))
    # Enums with a metaclass of their own, such as Django's choices, were one before msgspec 0.23.
    tried.add("CustomType")
    assert known - tried <= UNTRIED.keys()
    assert not tried & UNTRIED.keys()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(timezones=st.none() | st.just(UTC))
ZONED = st.datetimes(timezones=st.timezones()).filter(
    # Before standard time offsets had seconds, which JSON's cannot have: refused.
    lambda moment: (moment.utcoffset() or timedelta(0)).seconds % 60 == 0
)
TIMES = st.times(timezones=st.none() | st.just(UTC))
POINTS = st.builds(Point, st.integers(), FLOATS, st.none() | st.timedeltas())
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(),
    "number": FLOATS,
    "flag": st.booleans(),
    "text": TEXT,
    "blob": st.binary(),
    "exact": DECIMALS,
    "key": st.uuids(),
    "day": st.dates(),
    "clock": TIMES,
    "moment": MOMENTS,
    "pause": st.timedeltas(),
    "colour": st.sampled_from(eager.Colour),
    "level": st.sampled_from(eager.Level),
    "mode": st.sampled_from(["on", "off", 3]),
    "mood": st.sampled_from(eager.Mood),
    "right": st.sampled_from(eager.Right),
    "status": st.sampled_from(eager.Status),
    "priority": st.none() | st.sampled_from(eager.Priority),
    "nothing": st.none(),
    "described": st.integers(),
    "user": st.integers(),
    "last": st.integers(),
    "positive": st.integers(1),
    "optional": st.none() | st.uuids(),
    "either": st.none() | st.integers() | TEXT,
    "alternative": st.timedeltas() | st.integers(),
    "point": POINTS,
    "line": st.builds(Line, POINTS, POINTS),
    "shape": st.builds(Circle, TEXT, st.integers()) | st.builds(Wait, st.timedeltas()),
    "size": st.fixed_dictionaries(
        {"width": st.integers(), "pause": st.timedeltas()}, optional={"depth": st.integers()}
    ),
    "span": st.builds(Span, MOMENTS, st.timedeltas()),
    "tree": st.builds(Tree, st.integers(), st.lists(st.builds(Tree, st.integers()), max_size=2)),
    "box": st.builds(eager.Box, st.timedeltas(), st.lists(st.timedeltas(), max_size=2)),
    "move": st.builds(eager.Move, st.integers(), st.timedeltas()),
    "turn": st.builds(eager.Turn, FLOATS) | st.builds(eager.Halt, st.timedeltas()),
    "sequence": st.lists(st.dates(), max_size=2),
    "mapping": st.dictionaries(st.sampled_from(eager.Status), st.integers(), max_size=2),
    "abstract_set": st.sets(st.integers(), max_size=3),
    "numbers": st.lists(st.integers(), max_size=3),
    "nested": st.lists(st.lists(st.dates(), max_size=2), max_size=2),
    "labels": st.sets(TEXT, max_size=3),
    "frozen": st.frozensets(st.integers(), max_size=3),
    "pair": st.tuples(st.integers(), TEXT),
    "row": st.lists(DECIMALS, max_size=3).map(tuple),
    "by_number": st.dictionaries(st.integers(-(2**63), 2**63 - 1), TEXT, max_size=3),
    "by_day": st.dictionaries(st.dates(), DECIMALS, max_size=3),
    "by_key": st.dictionaries(st.uuids(), st.lists(st.timedeltas(), max_size=2), max_size=2),
    "some_dict": st.dictionaries(TEXT, PLAIN, max_size=3),
    "some_list": st.lists(PLAIN, max_size=3),
    "anything": PLAIN,
    "maybe": st.none() | st.integers(),
    "made": st.lists(st.integers(), max_size=3),
}


ONE_FIELD = {name: codec_of(info.type) for name, info in EVERYTHING.fields.items()}


@pytest.mark.parametrize("name", VALUES)
@settings(deadline=None)
@given(data=st.data())
def test_sent_values_arrive_equal(name: str, data: st.DataObject) -> None:
    """P20 and P21, for every kind of field."""
    value = data.draw(VALUES[name])
    codec = ONE_FIELD[name]
    sent = codec.encode({"x": value})
    arrived = codec.decode(sent)["x"]
    assert isinstance(sent, str)
    assert arrived == value
    # Loosely spelled neighbours take the message through the slow path: the same result.
    assert repr(codec.decode(json.dumps({"kwargs": json.loads(sent)}))["x"]) == repr(arrived)


@settings(deadline=None)
@given(ZONED)
def test_a_zone_arrives_as_its_offset(moment: datetime.datetime) -> None:
    """Compared as text: in the hour that clocks repeat equal times are unequal (PEP 495)."""
    codec = codec_of(datetime.datetime)
    assert codec.decode(codec.encode({"x": moment}))["x"].isoformat() == moment.isoformat()


@settings(deadline=None)
@given(st.fixed_dictionaries(VALUES))
def test_a_channel_with_every_type_of_field_arrives_equal(values: dict[str, Any]) -> None:
    assert EVERYTHING.decode(EVERYTHING.encode(values)) == values


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"\\x00"])
def test_buffers_and_raw_json_arrive_equal(content: bytes) -> None:
    raw = msgspec.Raw(b'{"a": [1.50, 10000000000000000000000]}')
    values = {"array": bytearray(content), "view": memoryview(content), "raw": raw}
    codec = Codec(eager.Buffers, "blog.Buffers")
    arrived = codec.decode(codec.encode(values))
    assert [type(value) for value in arrived.values()] == [bytearray, memoryview, msgspec.Raw]
    assert [bytes(value) for value in arrived.values()] == [content, content, bytes(raw)]


def test_raw_json_must_be_json() -> None:
    with pytest.raises(PayloadError, match=r"blog\.One: field 'x'"):
        encoded(msgspec.Raw, msgspec.Raw(b"no JSON"))


# What the tests of the predecessor send.


@dataclass
class Reads:
    model_id: int
    model_type: str
    date: datetime.date = None


@dataclass
class BookReads(Reads):
    model_type: str = "Book"


def test_a_subclass_gives_a_required_field_a_default() -> None:
    """P20: and None, where it is the default, is None and not its name."""
    codec = Codec(BookReads, "blog.BookReads")
    assert [(f.name, f.required) for f in codec.fields.values()] == [
        ("model_id", True),
        ("model_type", False),
        ("date", False),
    ]
    arrived = {"model_id": 1, "model_type": "Book", "date": None}
    assert codec.decode(codec.encode({"model_id": 1})) == arrived
    assert codec.decode('{"kwargs": {"model_id": 1, "date": "2026-01-31"}}')["date"] == DAY
    with pytest.raises(PayloadError, match="missing 'model_type'"):
        Codec(Reads, "blog.Reads").encode({"model_id": 1})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (typing.Dict[int, int], {1: 2}),  # noqa: UP006 - as its users write it
        (typing.Dict[str, bool], {"Paul": False}),  # noqa: UP006
        (typing.Dict[datetime.date, bool], {DAY: True, datetime.date(2026, 2, 1): False}),  # noqa: UP006
        (typing.Dict[str, datetime.datetime], {"chosen": TEN}),  # noqa: UP006
        (typing.List[datetime.date], [DAY, datetime.date(2026, 2, 1)]),  # noqa: UP006
        (typing.Set[float], {1.0, 2.1}),  # noqa: UP006
        (typing.Tuple[str], ("hello", "world")),  # noqa: UP006
        (tuple[datetime.date], (DAY,)),
    ],
)
def test_messages_of_django_pgpubsub_arrive_equal(kind: Any, value: Any) -> None:
    """A tuple of one type is one of any length there, and has to be here."""
    codec = codec_of(kind)
    sent = codec.encode({"x": value})
    assert codec.decode(sent) == {"x": value}
    assert codec.decode(json.dumps({"kwargs": json.loads(sent)})) == {"x": value}
