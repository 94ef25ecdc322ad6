"""Messages that plain SQL builds, in every way it can."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import make_dataclass
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest
from django.db import connection

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.payloads import Codec
from tests.payloads import declared as eager
from tests.payloads.support import codec_of

pytestmark = pytest.mark.django_db
TEN = datetime.datetime(2026, 1, 31, 10)

FORMS = {
    "jsonb": "jsonb_build_object('x', {0})",
    "json": "json_build_object('x', {0})::jsonb",
    "row": "(SELECT to_jsonb(r) FROM (SELECT {0} AS x) AS r)",
    "text": "jsonb_build_object('x', ({0})::text)",
    "texts": "json_object(ARRAY['x'], ARRAY[({0})::text])::jsonb",
    "envelope": "jsonb_build_object('kwargs', jsonb_build_object('x', ({0})::text))",
}
VALUES: list[tuple[Any, str, Any]] = [
    (int, "5", 5),
    (int, "4611686018427387904", 2**62),
    (int, "5.0", 5),
    (float, "1.5::float8", 1.5),
    (float, "1e-300::float8", 1e-300),
    (float, "'-Infinity'::float8", float("-inf")),
    (Decimal, "1.10", Decimal("1.10")),
    (Decimal, "12345678901234567890.123456789", Decimal("12345678901234567890.123456789")),
    (bool, "true", True),
    (bool, "1 > 2", False),
    (str, "E'\"\\\\ \\n ☃'", '"\\ \n ☃'),
    (uuid.UUID, "'00000000-0000-0000-0000-000000000001'::uuid", uuid.UUID(int=1)),
    (bytes, "'\\x00ff'::bytea", b"\x00\xff"),
    (bytearray, "'\\x'::bytea", bytearray()),
    (datetime.date, "'2026-01-31'::date", TEN.date()),
    (datetime.datetime, "'2026-01-31 10:00'::timestamp", TEN),
    (datetime.datetime, "'2026-01-31 10:00+00'::timestamptz", TEN.replace(tzinfo=UTC)),
    (datetime.datetime, "'1850-01-31 10:00+00'::timestamptz",
     TEN.replace(year=1850, tzinfo=UTC)),
    (datetime.time, "'10:00:00.5'::time", datetime.time(10, microsecond=500_000)),
    (datetime.time, "'12:00:00+00'::timetz", datetime.time(12, tzinfo=UTC)),
    (timedelta, "'1 day 02:00:00'::interval", timedelta(1, 7200)),
    (timedelta, "'-1 day +02:03:04.5'::interval", timedelta(-1, 7384.5)),
    (timedelta, "'-100 hours'::interval", timedelta(hours=-100)),
    (timedelta, "'0'::interval", timedelta(0)),
    (eager.Colour, "'red'", eager.Colour.RED),
    (eager.Level, "2", eager.Level.HIGH),
    (eager.Status, "'d'", eager.Status.DRAFT),
    (eager.Priority, "2", eager.Priority.HIGH),
    (Literal["on", 3], "'on'", "on"),
]  # fmt: skip
SETTINGS = [
    {},
    {"IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu"},
    {"IntervalStyle": "sql_standard", "TimeZone": "America/St_Johns"},
    {"IntervalStyle": "postgres_verbose", "TimeZone": "UTC"},
]


def stored(message: str) -> str:
    """Send a message as somebody who knows nothing of Python; return what a worker takes."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pgpubsub_notify('by.sql', {message})")
        cursor.execute("SELECT payload::text FROM pgpubsub_sql_notification ORDER BY id DESC")
        return cursor.fetchone()[0]


@pytest.fixture(params=SETTINGS, ids=lambda settings: settings.get("IntervalStyle", "defaults"))
def session(request: pytest.FixtureRequest) -> None:
    with connection.cursor() as cursor:
        for name, value in request.param.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(("kind", "expression", "value"), VALUES)
def test_values_that_postgres_spells_are_read(kind: Any, expression: str, value: Any) -> None:
    """P20: whatever the settings of the session, whether cast to text or not, and in arrays."""
    for form in FORMS.values():
        arrived = codec_of(kind).decode(stored(form.format(expression)))["x"]
        assert arrived == value, form
        assert type(arrived) is type(value), form
    sent = stored(f"jsonb_build_object('x', ARRAY[{expression}, NULL])")
    assert codec_of(list[kind | None]).decode(sent) == {"x": [value, None]}


def test_a_row_can_be_a_message_or_part_of_one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TYPE pg_temp.point AS (x integer, y float8, after interval)")
    point = eager.Point(1, 0.5, timedelta(1))
    fields = [("x", int), ("y", float), ("after", timedelta)]
    row = "ROW(1, 0.5, '1 day')::pg_temp.point"
    channel = Codec(make_dataclass("Row", fields), "blog.Row")
    assert channel.decode(stored(f"to_jsonb({row})")) == {"x": 1, "y": 0.5, "after": timedelta(1)}
    sent = stored(f"jsonb_build_object('x', ARRAY[{row}])")
    assert codec_of(list[eager.Point]).decode(sent) == {"x": [point]}


def test_null_is_none_or_an_error() -> None:
    sent = stored("jsonb_build_object('x', NULL::interval)")
    assert codec_of(timedelta | None).decode(sent) == {"x": None}
    assert codec_of(timedelta, default=None).decode(sent) == {"x": None}
    with pytest.raises(PayloadError, match=r"Expected `duration`, got `null` - at `\$\.x`"):
        codec_of(timedelta).decode(sent)


@pytest.mark.parametrize("kind", [float, Decimal])
@pytest.mark.parametrize("form", FORMS)
def test_nan_is_nan(kind: Any, form: str) -> None:
    """It can be received, from a numeric column say, though notify() does not send it."""
    arrived = codec_of(kind).decode(stored(FORMS[form].format("'NaN'::numeric")))["x"]
    assert isinstance(arrived, kind)
    assert arrived != arrived


@pytest.mark.parametrize(
    ("kind", "expression", "words"),
    [
        (datetime.datetime, "'infinity'::timestamptz", "Python has no infinite dates and times"),
        (datetime.date, "'-infinity'::date", "Python has no infinite dates and times"),
        (datetime.date, "'0044-03-15 BC'::date", "Invalid RFC3339 encoded date"),
        (datetime.datetime, "'12026-01-01'::timestamp", "Invalid RFC3339 encoded datetime"),
        (datetime.time, "'24:00'::time", "Invalid RFC3339 encoded time"),
        (timedelta, "'1 mon'::interval", "Invalid ISO8601 duration"),
        (timedelta, "'1 year -1 day'::interval", "Invalid ISO8601 duration"),
        (int, "1.5", "Expected `int`"),
        (uuid.UUID, "'x'::text", "Invalid UUID"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_values_that_python_lacks_are_errors_that_name_the_field(
    kind: Any, expression: str, words: str, form: str
) -> None:
    with pytest.raises(PayloadError, match=r"^blog\.One: .*at `\$\.x`.*") as caught:
        codec_of(kind).decode(stored(FORMS[form].format(expression)))
    assert words in str(caught.value)


def test_dates_in_an_ambiguous_style_are_refused() -> None:
    """01/02/2026 is two days. As JSON a date is always spelled one way."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL DateStyle = 'SQL, DMY'")
    first = "'2026-02-01'::date"
    assert codec_of(datetime.date).decode(stored(FORMS["jsonb"].format(first)))["x"].month == 2
    with pytest.raises(PayloadError, match="Invalid RFC3339 encoded date"):
        codec_of(datetime.date).decode(stored(FORMS["text"].format(first)))
