"""A literal is the value that a driver would have sent."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import (
    DateRange,
    DateTimeTZRange,
    Inet,
    Jsonb,
    NumericRange,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgpubsub_sql.errors import ConditionError
from pgpubsub_sql.sql.literals import literal
from tests.conditions.models import Colour, Level

INT8 = st.integers(-(2**63) + 1, 2**63 - 1)
TEXT = st.text(
    st.sampled_from("'\"\\$%{}, \n") | st.characters(exclude_characters="\0", codec="utf-8")
)
MOMENTS = st.datetimes(timezones=st.just(dt.UTC))
DECIMALS = st.decimals(-(10**20), 10**20, places=5)
on_the_server = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def ranges(of: type, bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.tuples(bounds, bounds).map(sorted)
    some = st.tuples(pairs, st.sampled_from(["[]", "[)", "(]", "()"]))
    half = st.tuples(bounds.map(lambda bound: [bound, None]), st.sampled_from(["[)", "()"]))
    return (some | half).map(lambda made: of(*made[0], made[1])) | st.just(of(empty=True))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("boolean", st.booleans()),
        ("bigint", INT8),
        ("numeric", INT8 | DECIMALS),
        ("float8", st.floats(allow_nan=True)),
        ("text", TEXT),
        ("date", st.dates()),
        ("timestamptz", MOMENTS),
        ("time", st.times()),
        ("interval", st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6))),
        ("uuid", st.uuids()),
        ("bytea", st.binary()),
        ("inet", st.ip_addresses()),
        ("text[]", st.lists(TEXT | st.none())),
        ("bigint[]", st.lists(st.lists(INT8, min_size=2, max_size=2))),
        ("date[]", st.lists(st.dates() | st.none())),
        ("uuid[]", st.lists(st.uuids())),
        ("int8range", ranges(NumericRange, st.integers(-(2**31), 2**31))),
        ("numrange", ranges(NumericRange, DECIMALS)),
        ("daterange", ranges(DateRange, st.dates(max_value=dt.date(9999, 12, 30)))),
        ("tstzrange", ranges(DateTimeTZRange, MOMENTS)),
    ],
)
@on_the_server
@given(data=st.data())
def test_a_literal_is_the_value_of_a_parameter(
    kind: str, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    sent = str(value) if kind == "inet" else value
    spelled = literal(value).replace("%", "%%")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT ({spelled})::{kind} IS NOT DISTINCT FROM %s::{kind}", [sent])
        assert cursor.fetchone() == (True,)


@pytest.mark.django_db
@on_the_server
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    ).filter(lambda value: "inf" not in repr(value).lower())
)
def test_a_json_literal_is_the_value_of_a_parameter(value: Any) -> None:
    spelled = literal(Jsonb(value)).replace("%", "%%")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {spelled} = %s", [Jsonb(value)])
        assert cursor.fetchone() == (True,)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (None, "NULL"),
        (True, "true"),
        (-1, "(-1)"),
        (10**400, f"1{'0' * 400}"),
        (-0.0, "(-0.0)"),
        (1e22, "1e+22"),
        (float("nan"), "'nan'::float8"),
        (Decimal("-1.50"), "(-1.50)"),
        (Decimal("NaN"), "'NaN'::numeric"),
        (Decimal("-Infinity"), "'-Infinity'::numeric"),
        (Colour.RED, "'r'"),
        (Level.HIGH, "2"),
        (enum.IntEnum("Three", {"THREE": 3}).THREE, "3"),
        (enum.StrEnum("Odd", {"QUOTE": "it's"}).QUOTE, "'it''s'"),
        ("$pgpubsub$", r"E'\x24pgpubsub\x24'"),
        (dt.date(1, 2, 3), "'0001-02-03'::date"),
        (dt.datetime(2026, 1, 31, 1, 2, 3, 4), "'2026-01-31 01:02:03.000004 UTC'::timestamptz"),
        (
            dt.datetime(2026, 1, 31, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
            "'2026-01-31 00:00:00-03:30'::timestamptz",
        ),
        (dt.timedelta(microseconds=-1), "'-1 days +86399 seconds +999999 microseconds'::interval"),
        (uuid.UUID(int=1), "'00000000-0000-0000-0000-000000000001'::uuid"),
        (b"\x00'", r"E'\\x0027'::bytea"),
        (
            ipaddress.ip_address("::ffff:10.0.0.1"),
            "'0000:0000:0000:0000:0000:ffff:0a00:0001'::inet",
        ),
        (Inet("10.0.0.1"), "'10.0.0.1'::inet"),
        ([], "'{}'"),
        ([[], []], "'{}'"),
        ((1, None), "ARRAY[1, NULL]"),
        ({"a": None, 'b"\\': "1"}, r"""E'"a"=>NULL, "b\\"\\\\"=>"1"'"""),
        (NumericRange(1, None), """'["1",)'"""),
    ],
)
def test_literals_of_each_type(value: object, spelled: str) -> None:
    """T6: the same under both drivers."""
    assert literal(value) == spelled


def test_a_datetime_without_a_zone_is_in_the_time_zone_of_the_project(settings: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    moment = dt.datetime(2026, 1, 31, 10)
    assert literal(moment) == "'2026-01-31 10:00:00 America/New_York'::timestamptz"
    assert (
        literal(DateTimeTZRange(moment, None)) == """'["2026-01-31 10:00:00 America/New_York",)'"""
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object, "of type type has no literal in SQL"),
        ({1, 2}, "of type set has no literal in SQL"),
        (dt.time(1, tzinfo=dt.UTC), "has a time zone, and PostgreSQL's time has none"),
        (Jsonb(float("inf")), "JSON has no Infinity"),
        (Jsonb({"a": "\0"}), "contains a NUL"),
        (Jsonb(object), "is not JSON that PostgreSQL accepts"),
    ],
)
def test_values_without_a_literal_are_refused(value: object, reason: str) -> None:
    with pytest.raises(ConditionError, match=reason):
        literal(value)
