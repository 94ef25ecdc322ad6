"""Settings of the writer's session, which affect how values are spelled.

The functions of our triggers pin the spelling; those that somebody wrote by hand do not.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from contextlib import ExitStack

import pytest
from django.db import connections
from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange
from django.test import override_settings

from tests.rows.models import Everything
from tests.rows.support import UTC, assert_same, execute, new, sent, session, spelled
from tests.rows.values import FIELDS

pytestmark = pytest.mark.django_db

CONTRARY = {
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "TimeZone": "Asia/Kathmandu",
    "lc_monetary": "C",
    "quote_all_identifiers": "on",
    "xmlbinary": "hex",
}


@pytest.mark.parametrize("which", [0, -1])
def test_our_triggers_spell_values_alike_in_every_session(which: int) -> None:
    """Nothing is rounded, nothing is ambiguous, nothing is deferred."""
    with ExitStack() as sessions:
        for name, value in CONTRARY.items():
            sessions.enter_context(session(name, value))
        Everything.objects.create(**{name: values[which] for name, values in FIELDS.items()})
    assert_same(new(Everything, sent(Everything)), Everything.objects.get())


@pytest.mark.parametrize("style", ["postgres", "iso_8601", "sql_standard", "postgres_verbose"])
@pytest.mark.parametrize(
    "value",
    [
        "0",
        "1 day",
        "-1 day",
        "1 year",
        "-1 year -2 mons",
        "1 year 2 mons 3 days 04:05:06.789",
        "-1 day -02:03:04",
        "-1 day +02:03:04",
        "1 day -02:03:04.000001",
        "-00:00:00.5",
        "-1 year -2 mons +3 days -04:05:06",
        "1 mon -1 days",
        "100:00:00",
    ],
)
def test_durations_are_read_in_any_interval_style(style: str, value: str) -> None:
    """The same text, -1 2:03:04, means two things; the style that wrote it decides."""
    Everything.objects.create()
    execute(f"UPDATE rows_everything SET duration = '{value}'")
    with session("IntervalStyle", style):
        raw = spelled(Everything)
    assert_same(new(Everything, raw), Everything.objects.get())


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_timestamps_are_read_in_any_time_zone(zone: str) -> None:
    Everything.objects.create(
        datetime=dt.datetime(1850, 1, 31, 10, tzinfo=UTC),  # an offset with seconds
        array_datetime=[dt.datetime(2026, 7, 1, tzinfo=UTC)],
        datetime_range=DateTimeTZRange(dt.datetime(2026, 7, 1, tzinfo=UTC), None),
    )
    with session("TimeZone", zone):
        raw = spelled(Everything)
    assert_same(new(Everything, raw), Everything.objects.get())


@override_settings(USE_TZ=False, TIME_ZONE="America/New_York")
def test_timestamps_are_naive_without_use_tz() -> None:
    Everything.objects.create(datetime=dt.datetime(2026, 7, 1, 12), array_datetime=[])
    fetched = Everything.objects.get()
    with session("TimeZone", "Asia/Kathmandu"):
        raw = spelled(Everything)
    decoded = new(Everything, raw)
    assert decoded.datetime == dt.datetime(2026, 7, 1, 12)
    assert_same(decoded, fetched)


def test_timestamps_are_in_the_connections_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    Everything.objects.create(datetime=dt.datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    monkeypatch.setattr(connections["default"], "timezone", paris)
    decoded = new(Everything, sent(Everything))
    assert decoded.datetime.tzinfo is paris
    assert decoded.datetime.astimezone(UTC) == dt.datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_timestamps_without_time_zone_stay_naive() -> None:
    execute("ALTER TABLE rows_everything ALTER datetime TYPE timestamp")
    Everything.objects.create()
    execute("UPDATE rows_everything SET datetime = '2026-01-31 10:00:00.5'")
    assert_same(new(Everything, sent(Everything)), Everything.objects.get())


def test_bytes_in_the_escape_format_are_read() -> None:
    Everything.objects.create(binary=b"a\x00\\'", array_binary=[b"\xff"])
    with session("bytea_output", "escape"):
        raw = spelled(Everything)
    assert_same(new(Everything, raw), Everything.objects.get())


@pytest.mark.parametrize(
    "style", ["SQL, DMY", "SQL, MDY", "German", "Postgres, DMY", "Postgres, MDY"]
)
def test_ranges_of_dates_in_ambiguous_styles_are_deferred(style: str) -> None:
    """01/02/2026 is two days; the listener's session does not know which was meant."""
    first, second = dt.datetime(2026, 2, 1, tzinfo=UTC), dt.datetime(2026, 3, 4, tzinfo=UTC)
    Everything.objects.create(
        date=first.date(),
        datetime=first,
        array_date=[first.date()],
        date_range=DateRange(first.date(), second.date()),
        datetime_range=DateTimeTZRange(first, second),
        array_range=[DateRange(empty=True), DateRange(None, first.date())],
        integer_range=NumericRange(1, 2),
    )
    with session("DateStyle", style):
        raw = spelled(Everything)
    decoded = new(Everything, raw)
    assert_same(decoded, Everything.objects.get(), "array_range", "date_range", "datetime_range")
