"""PostgreSQL's spellings of values, as plain SQL sends them."""

from __future__ import annotations

import datetime
import json
import uuid
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from pgpubsub_sql.errors import PayloadError
from tests.payloads import declared as eager
from tests.payloads.declared import Circle, Line, Point, Size, Span, Tree, Wait
from tests.payloads.support import (
    TEN,
    TEN_UTC,
    decoded,
)


class Camel(msgspec.Struct, rename="camel"):
    time_left: timedelta


class Choice(msgspec.Struct):
    value: bool | str
    number: int


POSTGRES: list[tuple[object, str, object]] = [
    # timestamps: to_jsonb writes ISO 8601, a cast to text writes a blank and a short offset
    (datetime.datetime, "2026-01-31T10:00:00+00:00", TEN_UTC),
    (datetime.datetime, "2026-01-31T10:00:00", TEN),
    (datetime.datetime, "2026-01-31 10:00:00", TEN),
    (datetime.datetime, "2026-01-31 10:00:00.5", TEN.replace(microsecond=500_000)),
    (datetime.datetime, "2026-01-31 10:00:00+00", TEN_UTC),
    (datetime.datetime, "2026-01-31 12:00:00+02", TEN_UTC),
    (datetime.datetime, "2026-01-31 15:30:00+05:30", TEN_UTC),
    (datetime.datetime, "2026-01-31 09:40:28-00:19:32", TEN_UTC),
    (datetime.datetime, "2026-01-31", datetime.datetime(2026, 1, 31)),
    (datetime.time, "12:00:00", datetime.time(12)),
    (datetime.time, "12:00:00+00", datetime.time(12, tzinfo=UTC)),
    (datetime.time, "12:00:00.25-03:30", datetime.time.fromisoformat("12:00:00.25-03:30")),
    # intervals, in the styles postgres and iso_8601
    (timedelta, "00:00:01", timedelta(seconds=1)),
    (timedelta, "1 day", timedelta(days=1)),
    (timedelta, "3 days", timedelta(days=3)),
    (timedelta, "1 day 02:00:00", timedelta(days=1, hours=2)),
    (timedelta, "-1 days +02:03:04.5", timedelta(days=-1, hours=2, minutes=3, seconds=4.5)),
    (timedelta, "1 day -00:00:00.000001", timedelta(days=1, microseconds=-1)),
    (timedelta, "-100:00:00", timedelta(hours=-100)),
    (timedelta, "P1DT2H", timedelta(days=1, hours=2)),
    (timedelta, "P-1DT2H3M4.5S", timedelta(days=-1, hours=2, minutes=3, seconds=4.5)),
    (timedelta, "PT-1H-0.5S", timedelta(hours=-1, seconds=-0.5)),
    (timedelta, "PT0S", timedelta(0)),
    # and in the other two
    (timedelta, "@ 1 day 2 hours", timedelta(days=1, hours=2)),
    (timedelta, "@ 1 day 2 hours ago", timedelta(days=-1, hours=-2)),
    (timedelta, "-1 2:03:04", timedelta(days=-1, hours=-2, minutes=-3, seconds=-4)),
    (timedelta, "0", timedelta(0)),
    # bytea, booleans and numbers as text
    (bytes, "\\x00ff", b"\x00\xff"),
    (bytes, "\\x", b""),
    (bytes, "AP8=", b"\x00\xff"),
    (bytearray, "\\x00ff", bytearray(b"\x00\xff")),
    (bool, "t", True),
    (bool, "f", False),
    (bool, "true", True),
    (bool, "false", False),
    (int, "5", 5),
    (float, "1.5", 1.5),
    (Decimal, "1.10", Decimal("1.10")),
    (eager.Level, "2", eager.Level.HIGH),
]


@pytest.mark.parametrize(("kind", "text", "value"), POSTGRES)
def test_postgres_spellings_are_read(kind: Any, text: str, value: object) -> None:
    """P20: a cast to text, ``to_jsonb()`` or ``json_build_object()`` in a sender's SQL.

    Wherever the value stands.
    """
    spelled = json.dumps(text)
    assert decoded(kind, spelled) == value
    assert decoded(kind | None, spelled) == value
    assert decoded(Annotated[kind, msgspec.Meta(description="x")], spelled) == value
    assert decoded(list[kind], f"[{spelled}]") == [value]
    assert decoded(tuple[kind, ...], f"[{spelled}]") == (value,)
    assert decoded(tuple[int, kind | None], f'["1", {spelled}]') == (1, value)
    assert decoded(dict[str, kind], f'{{"k": {spelled}}}') == {"k": value}
    assert decoded(dict[str, list[kind | None]], f'{{"k": [null, {spelled}]}}') == {
        "k": [None, value]
    }


@pytest.mark.parametrize(
    ("kind", "json_text", "value"),
    [
        (Point, '{"x": "1", "after": "1 day"}', Point(1, 0.0, timedelta(1))),
        (Line, '{"start": {"x": 1, "after": "1 day"}, "end": {"x": "2"}}',
         Line(Point(1, 0.0, timedelta(1)), Point(2))),
        (Circle | Wait, '{"type": "wait", "label": "1 day", "flag": "t"}',
         Wait(timedelta(1), True)),
        (Circle | Wait, '{"type": "circle", "label": "1 day", "radius": "5"}', Circle("1 day", 5)),
        (Size, '{"width": "1", "pause": "1 day"}', {"width": 1, "pause": timedelta(1)}),
        (Span, '["2026-01-31 10:00:00+00", "1 day"]', Span(TEN_UTC, timedelta(1))),
        (Span, '["2026-01-31 10:00:00+00"]', Span(TEN_UTC)),
        (Tree, '{"value": "1", "children": [{"value": "2"}]}', Tree(1, [Tree(2)])),
        (dict[timedelta, bool], '{"1 day": "t"}', {timedelta(1): True}),
        (dict[datetime.datetime, int], '{"2026-01-31 10:00:00+00": 1}', {TEN_UTC: 1}),
        (timedelta | int, '"1 day"', timedelta(1)),
        (list[timedelta] | dict[str, timedelta], '{"a": "1 day"}', {"a": timedelta(1)}),
        (eager.Move, '["1", "1 day"]', eager.Move(1, timedelta(1))),
        (eager.Move, '["1"]', eager.Move(1)),
        (eager.Turn | eager.Halt, '["turn", "1.5", "1 day"]', eager.Turn(1.5, timedelta(1))),
        (eager.Turn | eager.Halt, '["halt", "1 day"]', eager.Halt(timedelta(1))),
        (eager.Box[timedelta], '{"item": "1 day"}', eager.Box(timedelta(1))),
        (list[eager.Status], '["d", "s"]', [eager.Status.DRAFT, eager.Status.SENT]),
        (dict[eager.Status, timedelta], '{"d": "1 day"}', {eager.Status.DRAFT: timedelta(1)}),
        (list[eager.Priority | None], '["2", null]', [eager.Priority.HIGH, None]),
        (Camel, '{"timeLeft": "1 day"}', Camel(timedelta(1))),
        (Choice, '{"value": "t", "number": "5"}', Choice("t", 5)),
        (tuple[Any, int], '["1 day", "5"]', ("1 day", 5)),
        (tuple[Decimal, int], '[1.10, "5"]', (Decimal("1.10"), 5)),
        (tuple[Any, int], '[123456789012345678901234567890, "5"]',
         (123456789012345678901234567890, 5)),
        (tuple[str | None, int | None], '["null", "5"]', ("null", 5)),
    ],
)  # fmt: skip
def test_postgres_spellings_are_read_in_structures(
    kind: Any, json_text: str, value: object
) -> None:
    """A field that is spelled loosely changes nothing about its neighbours."""
    found = decoded(kind, json_text)
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (datetime.datetime, "infinity"),
        (datetime.datetime, "-infinity"),
        (datetime.datetime, "0044-03-15 10:00:00+00 BC"),
        (datetime.datetime, "0001-01-01 00:00:00+14:00:30"),
        (datetime.date, "infinity"),
        (datetime.date, "2026-01-31 10:00:00"),
        (datetime.time, "24:00:00"),
        (timedelta, "infinity"),
        (timedelta, "1 mon"),
        (timedelta, "1 year 2 mons 3 days"),
        (timedelta, "999999999999 days"),
        (timedelta, ""),
        (timedelta, "00:00:1.2.3"),
        (bytes, "\\x0"),
        (bytes, "\\xzz"),
        (bool, "maybe"),
        (int, "abc"),
        (int, "1.5"),
        (uuid.UUID, "abc"),
        (eager.Colour, "green"),
        (int | None, "None"),
    ],
)
def test_unreadable_text_is_an_error_that_names_the_field(kind: Any, text: str) -> None:
    with pytest.raises(PayloadError, match=r"^blog\.One: .*\$\.x\b.* It takes {x: "):
        decoded(kind, json.dumps(text))
    with pytest.raises(PayloadError, match=r"\$\.x\[\.\.\.\]|\$\.x\[0\]"):
        decoded(list[kind], json.dumps([text]))


@pytest.mark.parametrize(
    ("kind", "json_text"),
    [
        (tuple[int, int], '["1", "2", "3"]'),
        (tuple[int, int], '["1"]'),
        (Span, '["2026-01-31T10:00:00", "PT1S", 3]'),
    ],
)
def test_reading_text_keeps_the_number_of_items(kind: Any, json_text: str) -> None:
    with pytest.raises(PayloadError, match="length"):
        decoded(kind, json_text)
