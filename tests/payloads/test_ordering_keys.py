"""Equal values make equal ordering keys, however they are spelled."""

from __future__ import annotations

import datetime
import enum
import uuid
from dataclasses import make_dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pgpubsub_sql.payloads import Codec, ordering_key

ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
NOON = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)


class Color(enum.Enum):
    RED = "red"


def key(kind: Any, value: Any) -> str | None:
    """Return the key of what a channel sends that orders by its only field."""
    codec = Codec(make_dataclass("Sent", [("field", kind)]), "app.Sent")
    return ordering_key(codec.encode({"field": value}), {"field": codec.fields["field"].type})


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (uuid.UUID, [ID, str(ID), str(ID).upper(), ID.hex], f'["{ID}"]'),
        (uuid.UUID | None, [ID, str(ID).upper()], f'["{ID}"]'),
        (
            datetime.datetime,
            [NOON, NOON.astimezone(ZoneInfo("Asia/Kolkata")), "2026-07-01T14:00:00+02:00"],
            '["2026-07-01T12:00:00Z"]',
        ),
        (datetime.datetime, [datetime.datetime(2026, 7, 1, 12)], '["2026-07-01T12:00:00"]'),
        (Decimal, [Decimal("1.0"), Decimal("1.00"), Decimal("1"), "1.000", 1], '["1"]'),
        (Decimal, [Decimal("1E+2"), Decimal("100.0")], '["100"]'),
        (Decimal, [Decimal("-0.0"), Decimal("0")], '["0"]'),
        (Decimal, [Decimal("0." + "1" * 40 + "0")], '["0.' + "1" * 40 + '"]'),
        (float, [1, 1.0], "[1]"),
        (float, [0.0, -0.0], "[0]"),
        (float, [0.5], "[0.5]"),
        (Any, [1, 1.0], "[1]"),
        (list[float], [[1, 2.0], (1.0, 2)], "[[1,2]]"),
        (int, [1], "[1]"),
        (bool, [True], "[true]"),
        (str, ["A"], '["A"]'),
        (str, ["1.0"], '["1.0"]'),
        (Color, [Color.RED, "red"], '["red"]'),
        (str | None, [None], "[null]"),
    ],
)
def test_equal_values_make_one_key(kind: Any, values: list[Any], expected: str) -> None:
    """F27: they were keys of their own, and so in no order."""
    assert {key(kind, value) for value in values} == {expected}


def test_a_datetime_at_the_end_of_the_calendar_has_a_key() -> None:
    """F27."""
    last = datetime.datetime.max.replace(tzinfo=ZoneInfo("America/New_York"))
    assert key(datetime.datetime, last)


def test_no_fields_make_no_key() -> None:
    assert ordering_key('{"field": 1}', {}) is None
