"""What a listener gets equals what a queryset gives, or is deferred; it is never something else."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.postgres import signals
from django.db import (
    DatabaseError,
    InternalError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange
from django.db.models import Model
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.rows import Change, decode_change
from pgpubsub_sql.rows.plans import plan_of
from tests.rows.models import (
    Bar,
    Celsius,
    Colour,
    Comparison,
    Cube,
    Everything,
    Exotic,
    Licence,
    Lossy,
    Odd,
    Pizzeria,
    Place,
    Plain,
    PlainProxy,
    Profile,
    Reading,
    Remembering,
    Restaurant,
    Square,
    Unspeakable,
    Visit,
    Words,
)

pytestmark = pytest.mark.django_db

UTC = dt.UTC


def execute(sql: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchone()[0] if cursor.description else None


def sent(model: type[Model]) -> str:
    """Return the payload that a trigger would send for the only row of a table."""
    table = connection.ops.quote_name(model._meta.db_table)
    return execute(
        "SELECT jsonb_build_object('op', 'INSERT', 'when', 'AFTER', 'old', NULL,"
        f" 'new', to_jsonb(t), 'context', '{{}}'::jsonb)::text FROM {table} t"
    )


def payload(new: Any = None, old: Any = None, **fields: Any) -> str:
    return json.dumps({"op": "UPDATE", "when": "AFTER", "old": old, "new": new, **fields})


def with_new(row: str) -> str:
    return '{"new": ' + row + "}"


def decode(model: type[Model], raw: str | bytes) -> Change:
    return decode_change(model, raw, using="default")


def new(model: type[Model], raw: str | bytes) -> Any:
    return decode(model, raw).new


def same(left: Any, right: Any) -> bool:
    """Equal in value and in type, all the way down; NaN included, -0.0 and 0.0 told apart."""
    if type(left) is not type(right):
        return False
    match left:
        case list():
            return len(left) == len(right) and all(map(same, left, right))
        case dict():
            return list(left) == list(right) and all(map(same, left.values(), right.values()))
        case float() | Decimal():
            return repr(left) == repr(right)
        case memoryview():  # the driver's do not compare
            return bytes(left) == bytes(right)
        case dt.datetime():
            return left == right and left.tzinfo is right.tzinfo
        case _:
            return bool(left == right)


def assert_same(decoded: Model, fetched: Model, *but: str) -> None:
    names = {field.attname for field in decoded._meta.concrete_fields}
    assert decoded.get_deferred_fields() == set(but)
    for name in names - set(but):
        left, right = getattr(decoded, name), getattr(fetched, name)
        assert same(left, right), f"{name}: {left!r} is not {right!r}"


def round_trip(**values: Any) -> Any:
    """Save a row, decode what a trigger would send for it, and compare with a fetched one."""
    Everything.objects.all().delete()
    Everything.objects.create(**values)
    decoded = new(Everything, sent(Everything))
    assert_same(decoded, Everything.objects.get())
    return decoded


@contextmanager
def session(name: str, value: str) -> Iterator[None]:
    """Change a setting of the session, as the writer's session may have it."""
    before = execute("SELECT set_config(%s, current_setting(%s), false)", name, name)
    execute("SELECT set_config(%s, %s, false)", name, value)
    try:
        yield
    finally:
        execute("SELECT set_config(%s, %s, false)", name, before)


# ------------------------------------------------------------------------------ every field

HUGE = 10**40 + 1
FIELDS: list[tuple[str, list[Any]]] = [
    ("big", [0, -(2**63), 2**63 - 1]),
    ("binary", [b"", b"\x00\xff'\\x", bytes(range(256))]),
    ("boolean", [True, False]),
    ("char", ["", "null", 'a"b\\c', "\\u0000", "☃ 𝄞", " x ", "{}"]),
    ("choice", [Colour.RED, "?"]),
    ("date", [dt.date.min, dt.date(2026, 1, 31), dt.date.max]),
    (
        "datetime",
        [
            dt.datetime(1, 1, 1, tzinfo=UTC),
            dt.datetime(1890, 5, 5, 5, 5, 5, 5, tzinfo=UTC),
            dt.datetime(2026, 1, 31, 10, tzinfo=UTC),
            dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ],
    ),
    ("decimal", [Decimal("1.50"), Decimal("-0.00000000000000000001"), Decimal(10**19), Decimal(0)]),
    (
        "duration",
        [
            dt.timedelta(0),
            dt.timedelta(microseconds=-1),
            dt.timedelta(days=-1, hours=2, microseconds=3),
            dt.timedelta(days=400, hours=-1),
            dt.timedelta(days=36500, seconds=1.5),
        ],
    ),
    ("email", ["a@example.org"]),
    ("file", ["", "a/b.txt"]),
    ("path", ["/tmp/x"]),
    (
        "float",
        [1.5, 0.0, -1e300, 5e-324, 1.7976931348623157e308, 0.1, math.inf, -math.inf, math.nan],
    ),
    ("integer", [-(2**31), 0, 2**31 - 1]),
    ("ip", ["192.168.0.1", "::1", "2001:db8::ff00:42:8329"]),
    (
        "json",
        [
            1.5,
            1,
            "1.5",
            "",
            "null",
            [],
            {},
            True,
            HUGE,
            -0.1,
            1e300,
            {"a": [1.0, None, {"b": HUGE, "c": "☃\\u0000"}], "": 0},
            {"$id": "x", "op": None},
        ],
    ),
    ("json_exact", [{"a": 1.10}, [0.1, 2, None]]),
    ("positive", [2**31 - 1]),
    ("positive_big", [2**63 - 1]),
    ("positive_small", [32767]),
    ("slug", ["a-b_c"]),
    ("small", [-32768]),
    ("text", ["", "x" * 100_000, "\x01\x1f\x7f\ufffe"]),
    ("time", [dt.time.min, dt.time(10, 30), dt.time.max]),
    ("url", ["https://example.org/?a=b&c=%20"]),
    ("uuid", [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]),
    ("big_range", [NumericRange(-(2**62), 2**62), NumericRange(None, 1, "(]")]),
    (
        "date_range",
        [
            DateRange(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "[]"),
            DateRange(None, dt.date(2026, 1, 1), "()"),
            DateRange(None, None),
            DateRange(empty=True),
        ],
    ),
    (
        "datetime_range",
        [
            DateTimeTZRange(dt.datetime(2026, 1, 1, tzinfo=UTC), None, "()"),
            DateTimeTZRange(
                dt.datetime(1890, 1, 1, tzinfo=UTC), dt.datetime(2026, 1, 1, 1, tzinfo=UTC), "[]"
            ),
            DateTimeTZRange(empty=True),
        ],
    ),
    (
        "decimal_range",
        [NumericRange(Decimal("1.50"), Decimal("2"), "(]"), NumericRange(empty=True)],
    ),
    ("integer_range", [NumericRange(1, 5), NumericRange(1, 1), NumericRange(None, None)]),
    ("array", [[], [1, None, 3]]),
    ("array_binary", [[b"\x00\xff", None, b""]]),
    ("array_char", [["a,b", 'c"{}', None], ["NULL", "null", ""]]),
    ("array_date", [[dt.date(2026, 1, 31), None]]),
    ("array_datetime", [[dt.datetime(2026, 1, 31, 1, 2, 3, tzinfo=UTC), None]]),
    ("array_decimal", [[Decimal("1.500"), Decimal(-7)]]),
    ("array_duration", [[dt.timedelta(days=-3, hours=4), None]]),
    ("array_float", [[1.0, math.nan, None, -math.inf]]),
    ("array_ip", [["10.0.0.1", None]]),
    ("array_json", [[{"a": 1.5}, "x", HUGE], []]),
    ("array_nested", [[], [[dt.time(1), None], [dt.time(2), dt.time(3)]]]),
    ("array_range", [[DateRange(dt.date(2026, 1, 1), None), None, DateRange(empty=True)]]),
    ("array_uuid", [[uuid.UUID(int=7), None]]),
    ("celsius", [Celsius(Decimal("36.60"))]),
    ("nothing", ["", "something"]),
]


def test_every_field_is_in_the_table() -> None:
    covered = {name for name, _ in FIELDS} | {"bits", "id", "point", "shouted"}
    assert covered == {field.name for field in Everything._meta.concrete_fields}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in FIELDS for value in [None, *values]],
)
def test_value_and_type_are_those_of_a_queryset(name: str, value: Any) -> None:
    """P21, P22: JSON floats stay floats; bytea, ranges and arrays of dates are what they were."""
    round_trip(**{name: value})


def test_json_keeps_the_type_of_numbers() -> None:
    """P21: the predecessor makes a string of 1.5."""
    assert same(round_trip(json={"a": 1.5, "b": 1}).json, {"a": 1.5, "b": 1})


def test_unknown_types_are_read_by_postgres() -> None:
    Everything.objects.create()
    execute("UPDATE rows_everything SET bits = '101', point = '(1.5,2)', shouted = 'hey'")
    decoded = new(Everything, sent(Everything))
    assert decoded.shouted == "HEY!"
    assert_same(decoded, Everything.objects.get())


def test_types_with_a_percent_sign() -> None:
    execute('CREATE DOMAIN "per%cent" AS integer CHECK (value < 100)')
    assert new(Exotic, payload({"id": 1, "percent": 99})).percent == 99
    with pytest.raises(PayloadError, match=r"rows\.Exotic\.percent: .*check constraint"):
        decode(Exotic, payload({"id": 1, "percent": 101}))


def test_fields_selected_as_expressions_are_deferred() -> None:
    decoded = new(Exotic, payload({"id": 1, "doubled": 1}))
    assert "doubled" in decoded.get_deferred_fields()


def test_converters_of_the_database_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend of a third party may bring its own, and they run before the fields'."""

    def shout(value: Any, expression: Any, connection: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    monkeypatch.setattr(connection.ops, "get_db_converters", lambda expression: [shout])
    plan_of.cache_clear()
    assert new(Licence, payload(ROW)).number == "X"
    monkeypatch.undo()
    plan_of.cache_clear()
    assert new(Licence, payload(ROW)).number == "x"


def test_file_and_choices_behave_as_usual() -> None:
    decoded = round_trip(file="a/b.txt", choice=Colour.GREEN)
    assert decoded.file.name == "a/b.txt"
    assert decoded.get_choice_display() == "Green"


COLUMN_VALUES = [
    ("decimal", "'NaN'"),
    ("duration", "'1 year 2 mons -3 days 04:05:06.789'"),
    ("duration", "'-14 mons +3 days -00:00:00.5'"),
    ("duration", "'1 year -1 mon'"),
    ("date", "'infinity'"),
    ("date", "'-infinity'"),
    ("date", "'0044-03-15 BC'"),
    ("date", "'12026-01-01'"),
    ("datetime", "'infinity'"),
    ("datetime", "'0044-03-15 12:00:00+00 BC'"),
    ("datetime", "'12026-01-01 00:00:00+00'"),
    ("time", "'24:00:00'"),
    ("ip", "'10.0.0.0/8'"),
    ("array", "'{{1,2},{3,4}}'"),
    ("array", "'[5:6]={1,2}'"),
    ("array_date", "'{infinity,2026-01-01}'"),
    ("array_nested", "'{10:00,11:00}'"),
    ("array_decimal", "'{NaN,1.5}'"),
    ("json", "'null'"),
    ("json", "'1e5'"),
    ("json", "'1.10'"),
    ("date_range", "'[2026-01-01,infinity)'"),
    ("date_range", "'[-infinity,12026-01-01)'"),
    ("duration", "'178000000 years'"),
]


@pytest.mark.parametrize(("name", "value"), COLUMN_VALUES)
def test_what_only_sql_can_write(name: str, value: str) -> None:
    """Values that Django cannot save: the same as a queryset's, or refused as the queryset does."""
    Everything.objects.create()
    execute(f'UPDATE rows_everything SET "{name}" = {value}')
    raw = sent(Everything)
    try:
        with transaction.atomic():
            fetched = Everything.objects.get()
    except (ValueError, OverflowError, DatabaseError):
        with pytest.raises(PayloadError, match=rf"rows\.Everything\.{name}: "):
            decode(Everything, raw)
    else:
        assert_same(new(Everything, raw), fetched)


# ------------------------------------------------------------------- the writer's own settings


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
def test_durations_of_any_interval_style(style: str, value: str) -> None:
    """The same text, -1 2:03:04, means two things; the style that wrote it decides."""
    Everything.objects.create()
    execute(f"UPDATE rows_everything SET duration = '{value}'")
    with session("IntervalStyle", style):
        raw = sent(Everything)
    assert_same(new(Everything, raw), Everything.objects.get())


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_moments_of_any_time_zone(zone: str) -> None:
    Everything.objects.create(
        datetime=dt.datetime(1850, 1, 31, 10, tzinfo=UTC),  # an offset with seconds
        array_datetime=[dt.datetime(2026, 7, 1, tzinfo=UTC)],
        datetime_range=DateTimeTZRange(dt.datetime(2026, 7, 1, tzinfo=UTC), None),
    )
    with session("TimeZone", zone):
        raw = sent(Everything)
    assert_same(new(Everything, raw), Everything.objects.get())


@override_settings(USE_TZ=False, TIME_ZONE="America/New_York")
def test_moments_without_time_zone_support() -> None:
    Everything.objects.create(datetime=dt.datetime(2026, 7, 1, 12), array_datetime=[])
    fetched = Everything.objects.get()
    with session("TimeZone", "Asia/Kathmandu"):
        raw = sent(Everything)
    decoded = new(Everything, raw)
    assert decoded.datetime == dt.datetime(2026, 7, 1, 12)
    assert_same(decoded, fetched)


def test_moments_in_the_connections_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    Everything.objects.create(datetime=dt.datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    monkeypatch.setattr(connections["default"], "timezone", paris)
    decoded = new(Everything, sent(Everything))
    assert decoded.datetime.tzinfo is paris
    assert decoded.datetime.astimezone(UTC) == dt.datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_moments_of_columns_without_time_zone() -> None:
    execute("ALTER TABLE rows_everything ALTER datetime TYPE timestamp")
    Everything.objects.create()
    execute("UPDATE rows_everything SET datetime = '2026-01-31 10:00:00.5'")
    assert_same(new(Everything, sent(Everything)), Everything.objects.get())


def test_bytes_in_the_escape_format() -> None:
    Everything.objects.create(binary=b"a\x00\\'", array_binary=[b"\xff"])
    with session("bytea_output", "escape"):
        raw = sent(Everything)
    assert_same(new(Everything, raw), Everything.objects.get())


@pytest.mark.parametrize(
    "style", ["SQL, DMY", "SQL, MDY", "German", "Postgres, DMY", "Postgres, MDY"]
)
def test_ranges_of_dates_in_any_date_style_are_not_guessed(style: str) -> None:
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
        raw = sent(Everything)
    decoded = new(Everything, raw)
    assert_same(decoded, Everything.objects.get(), "array_range", "date_range", "datetime_range")


# ------------------------------------------------------------------------------- properties

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=50)
MOMENTS = st.datetimes(
    dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(UTC), allow_imaginary=False
)
FLOATS = st.floats().filter(lambda value: repr(value) != "-0.0")  # jsonb knows no -0
DECIMALS = st.decimals(
    allow_infinity=False, allow_nan=False, places=20, min_value=-(10**19), max_value=10**19
)
DURATIONS = st.timedeltas(dt.timedelta(days=-3_000_000), dt.timedelta(days=3_000_000))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS.filter(math.isfinite) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


def arrays(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.none() | items, max_size=4)


def ranges(kind: Any, bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def build(pair: list[Any], limits: str) -> Any:
        return kind(*pair, limits)

    pairs = st.lists(bounds, min_size=2, max_size=2).map(sorted)
    halves = st.tuples(st.none(), bounds) | st.tuples(bounds, st.none())
    return st.builds(build, pairs | halves, st.sampled_from(["[)", "(]", "()", "[]"]))


ROWS = st.fixed_dictionaries(
    {},
    optional={
        "array": arrays(st.integers(-(2**31), 2**31 - 1)),
        "array_binary": arrays(st.binary(max_size=20)),
        "array_char": st.lists(st.none() | TEXT, max_size=3),
        "array_date": arrays(st.dates()),
        "array_datetime": arrays(MOMENTS),
        "array_duration": arrays(DURATIONS),
        "array_float": arrays(FLOATS),
        "array_json": st.lists(JSON.filter(lambda value: not isinstance(value, list))),
        "array_uuid": arrays(st.uuids()),
        "big": st.integers(-(2**63), 2**63 - 1),
        "binary": st.binary(max_size=100),
        "char": TEXT,
        "date": st.dates(),
        "date_range": ranges(DateRange, st.dates(max_value=dt.date(9999, 12, 30))),
        "datetime": MOMENTS,
        "datetime_range": ranges(DateTimeTZRange, MOMENTS),
        "decimal": DECIMALS,
        "decimal_range": ranges(NumericRange, DECIMALS),
        "duration": DURATIONS,
        "float": FLOATS,
        "integer_range": ranges(NumericRange, st.integers(-(2**31), 2**31 - 2)),
        "json": JSON,
        "json_exact": JSON,
        "text": TEXT,
        "time": st.times(),
        "uuid": st.uuids(),
    },
)

property_test = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@property_test
@given(values=ROWS)
def test_any_row_is_that_of_a_queryset(values: dict[str, Any]) -> None:
    """P21, P22."""
    round_trip(**values)


@property_test
@given(
    value=DURATIONS,
    style=st.sampled_from(["postgres", "iso_8601", "sql_standard", "postgres_verbose"]),
    months=st.integers(-1000, 1000),
    days=st.integers(-1000, 1000),
)
def test_any_interval_in_any_style(value: dt.timedelta, style: str, months: int, days: int) -> None:
    Everything.objects.all().delete()
    Everything.objects.create()
    execute(
        "UPDATE rows_everything SET duration = %s + make_interval(months => %s, days => %s)",
        value,
        months,
        days,
    )
    with session("IntervalStyle", style):
        raw = sent(Everything)
    assert_same(new(Everything, raw), Everything.objects.get())


# A row with the right columns and anything in them, beside JSON of any shape.
ANY_ROW = st.dictionaries(
    st.sampled_from([field.column for field in Everything._meta.concrete_fields]), JSON
)
ANY_MESSAGE = st.dictionaries(
    st.sampled_from(["op", "when", "old", "new", "context", "$stale"]), JSON | ANY_ROW
).map(json.dumps)


@property_test
@given(raw=ANY_MESSAGE | JSON.map(json.dumps) | TEXT | st.text() | st.binary())
def test_garbage_is_a_payload_error_and_nothing_else(raw: str | bytes) -> None:
    with suppress(PayloadError):
        decode(Everything, raw)
    assert execute("SELECT 1") == 1, "the transaction goes on"


# --------------------------------------------------------------------------------- envelope

ROW = {"licence_id": 1, "number": "x"}


@pytest.mark.parametrize(
    ("fields", "op"),
    [
        ({"new": ROW}, "INSERT"),
        ({"old": ROW}, "DELETE"),
        ({"old": ROW, "new": ROW}, "UPDATE"),
        ({"old": None, "new": ROW, "app": "rows", "model": "Licence"}, "INSERT"),
    ],
)
def test_operation_is_inferred(fields: dict[str, Any], op: str) -> None:
    """The messages of the predecessor name no operation; P22: nor does their model count."""
    change = decode(Licence, json.dumps(fields))
    assert (change.op, change.when, change.context) == (op, "AFTER", {})
    assert (change.old is not None, change.new is not None) == (
        "old" in fields and bool(fields["old"]),
        "new" in fields,
    )


def test_whole_envelope() -> None:
    change = decode(
        Licence, payload(ROW, ROW | {"number": "y"}, context={"a": [1.5]}, **{"$stale": True})
    )
    assert (change.op, change.when, change.context) == ("UPDATE", "AFTER", {"a": [1.5]})
    assert (change.old.number, change.new.number) == ("y", "x")
    assert not change.new._state.adding
    assert change.new._state.db == "default"


def test_truncate_has_no_rows() -> None:
    change = decode(Licence, payload(op="TRUNCATE"))
    assert (change.op, change.old, change.new) == ("TRUNCATE", None, None)


def test_rows_of_an_update_may_come_alone() -> None:
    assert decode(Licence, payload(ROW)).old is None
    assert decode(Licence, payload(old=ROW)).new is None


def test_bytes_are_as_good_as_text() -> None:
    assert new(Licence, payload({**ROW, "number": "☃"}).encode()).number == "☃"


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "null",
        "[]",
        "1",
        "{",
        '{"op": "INSERT"}',
        payload(),
        payload(op="INSERT", old=ROW),
        payload(op="DELETE", new=ROW),
        payload(ROW, op="UPSERT"),
        payload(ROW, when="LATER"),
        payload(ROW, context=[]),
        payload([]),
        payload("x"),
        payload({}),
        payload({"number": "x"}),
        payload({"licence_id": None}),
        payload({"licence_id": "1"}),
        payload({"licence_id": True}),
        payload({"licence_id": 1.5}),
        payload({"licence_id": 1, "number": 5}),
        payload({"licence_id": 1, "number": {}}),
        payload({"licence_id": 1, "number": "a\x00b"}),
        payload({"licence_id": 1, "number": "\\\x00"}),
        payload({"licence_id": 1, "number": "\ud800"}),
        '{"new": {"licence_id": 1, "number": "\ud800"}}',
        b'{"new": {"licence_id": 1, "number": "\xff"}}',
        b"\xff",
        DEEP,
        with_new(DEEP),
        with_new('{"licence_id": 1, "unknown": ' + DEEP + "}"),
        with_new('{"licence_id": 1}, "context": {"x": ' + DEEP + "}"),
        with_new('{"licence_id": ' + "9" * 10_000 + "}"),
        payload(ROW) + "x",
    ],
)
def test_malformed(raw: str | bytes) -> None:
    with pytest.raises(PayloadError, match=r"^rows\.Licence"):
        decode(Licence, raw)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("array", '"x"'),
        ("array", '["x"]'),
        ("array", "[[[[[[[[1]]]]]]]]"),
        ("binary", '"\\\\xzz"'),
        ("binary", "1"),
        ("boolean", "1"),
        ("celsius", "-300"),
        ("date", '"2026-02-30"'),
        ("datetime", '"yesteryear"'),
        ("decimal", '"x"'),
        ("duration", '"one day"'),
        ("duration", '""'),
        ("float", '"1.5"'),
        ("integer_range", "{}"),
        ("integer_range", '"[3,1)"'),
        ("json", '"\ud800"'),
        ("json", DEEP),
        ("json", "9" * 10_000),
        ("point", '"here"'),
        ("time", '"25:00:00"'),
        ("uuid", '"x"'),
    ],
)
def test_error_names_the_column(column: str, value: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(Everything, with_new(f'{{"id": 1, "{column}": {value}}}'))
    if len(value) < 1000 and "\ud800" not in value:
        assert column in str(caught.value)


def test_escaped_backslash_is_not_a_nul() -> None:
    Everything.objects.create(text="\\u0000", json={"\\u0000": "\\\\u0000"})
    assert_same(new(Everything, sent(Everything)), Everything.objects.get())


def test_the_last_of_equal_keys_counts_as_in_jsonb() -> None:
    raw = '{"new": {"licence_id": 1, "licence_id": 2}, "op": "DELETE", "op": "INSERT"}'
    assert new(Licence, raw).pk == 2


# ---------------------------------------------------------------------------------- deferred


def test_columns_that_did_not_travel_are_deferred() -> None:
    """P22: deferred, never blank."""
    licence = Licence.objects.create(number="A 1")
    decoded = new(Licence, payload({"licence_id": licence.pk}))
    assert decoded.get_deferred_fields() == {"number"}
    decoded.save()
    licence.refresh_from_db()
    assert licence.number == "A 1"
    assert decoded.number == "A 1"


def test_unknown_columns_are_ignored() -> None:
    assert_same(new(Licence, payload({**ROW, "added": [1], "Number": 2})), Licence(1, "x"))


def test_rows_that_waited_while_their_table_changed() -> None:
    """The model decides, so neither dropped columns nor a lost table hurt, in any schema."""
    Everything.objects.create(integer_range=NumericRange(1, 5), char="x", decimal=Decimal("1.5"))
    raw, fetched = sent(Everything), Everything.objects.get()
    execute("DROP TABLE rows_everything CASCADE")
    assert_same(new(Everything, raw), fetched)


def test_columns_that_have_been_widened() -> None:
    """A cast to the declared length would refuse the text, one to the scale round the number."""
    wide = {"char": "x" * 1000, "array_char": [["x" * 1000]], "array_decimal": [[1.123456789]]}
    decoded = new(Everything, payload({"id": 1} | wide))
    assert decoded.char == wide["char"]
    assert decoded.array_char == wide["array_char"]
    assert decoded.array_decimal == [[Decimal("1.123456789")]]


def test_generated_columns() -> None:
    Square.objects.create(side=3)
    raw = sent(Square)
    assert_same(new(Square, raw), Square.objects.get())
    before = decode(
        Square,
        payload({"id": 1, "side": 3, "area": None}, {"id": 1, "side": 2, "area": 4}, when="BEFORE"),
    )
    assert before.old.area == 4
    assert before.new.get_deferred_fields() == {"area"}, "computed only after BEFORE triggers"


def test_virtual_columns_are_null_in_triggers_and_so_deferred() -> None:
    assert new(Cube, payload({"id": 1, "side": 3, "volume": None})).get_deferred_fields() == {
        "volume"
    }
    assert new(Cube, payload({"id": 1, "side": 3})).get_deferred_fields() == {"volume"}
    assert new(Cube, payload({"id": 1, "side": 3, "volume": 27})).volume == 27


def test_types_that_json_rounds_or_localizes_are_deferred() -> None:
    """PostGIS rounds coordinates in JSON, and money depends on the writer's locale."""
    decoded = new(Lossy, payload({"id": 1, "where": {"type": "Point"}, "price": "$1,000.00"}))
    assert decoded.get_deferred_fields() == {"where", "price"}


# ------------------------------------------------------------------------------- inheritance


def test_multi_table_inheritance_defers_the_parents_fields() -> None:
    """P22: blank parent fields would be wiped by a later save()."""
    made = Restaurant.objects.create(name="Chez", stars=2)
    decoded = new(Restaurant, sent(Restaurant))
    assert_same(decoded, made, "name")
    assert decoded.pk == decoded.code == decoded.place_ptr_id == made.code
    decoded.stars = 3
    decoded.save()
    assert Place.objects.get().name == "Chez"
    assert Restaurant.objects.get().stars == 3


def test_multi_table_inheritance_through_two_levels() -> None:
    made = Pizzeria.objects.create(name="Da", stars=1, oven="wood")
    decoded = new(Pizzeria, sent(Pizzeria))
    assert_same(decoded, made, "name", "stars")
    decoded.save()
    assert_same(Pizzeria.objects.get(), made)


def test_multi_table_inheritance_of_two_parents() -> None:
    made = Bar.objects.create(name="B", number="7", closes=dt.time(3))
    decoded = new(Bar, sent(Bar))
    assert_same(decoded, made, "name", "number")
    decoded.save()
    assert_same(Bar.objects.get(), made)


def test_one_to_one_primary_key() -> None:
    Profile.objects.create(place=Place.objects.create(name="x"), note="n")
    assert_same(new(Profile, sent(Profile)), Profile.objects.get())


def test_composite_primary_key() -> None:
    """P22: composite primary keys raise."""
    place = Place.objects.create(name="x")
    Visit.objects.create(place=place, day=dt.date(2026, 1, 31), guests=4)
    decoded = new(Visit, sent(Visit))
    assert decoded.pk == (place.code, dt.date(2026, 1, 31))
    assert_same(decoded, Visit.objects.get())
    with pytest.raises(PayloadError, match=r"rows\.Visit\.day: .*primary key"):
        decode(Visit, payload({"place_id": str(place.code)}))


def test_foreign_key_to_a_converted_primary_key() -> None:
    Comparison.objects.create(reading=Reading.objects.create(celsius=Decimal("1.5")))
    decoded = new(Comparison, sent(Comparison))
    assert decoded.reading_id == Celsius(Decimal("1.50"))
    assert_same(decoded, Comparison.objects.get())


def test_proxies() -> None:
    made = PlainProxy.objects.create(price=1, created=dt.datetime(2026, 1, 1, tzinfo=UTC))
    decoded = new(PlainProxy, sent(Plain))
    assert type(decoded) is PlainProxy
    assert_same(decoded, PlainProxy.objects.get(pk=made.pk))


def test_own_from_db_is_called() -> None:
    assert new(Remembering, payload({"id": 1, "size": 2})).loaded == {"id": 1, "size": 2}


# --------------------------------------------------------------------------------- odd names


def test_odd_column_names() -> None:
    names = [field.name for field in Odd._meta.concrete_fields if field.name != "capital"]
    Odd.objects.create(
        **{name: number for number, name in enumerate(names)}, capital=NumericRange(1, 2)
    )
    assert_same(new(Odd, sent(Odd)), Odd.objects.get())


def test_column_names_that_django_cannot_query() -> None:
    decoded = new(Unspeakable, payload({"id": 1, "100%s": "[1,2)", "$id": 7, 'a"b': "empty"}))
    assert decoded.percent == NumericRange(1, 2)
    assert decoded.dollar == 7
    assert decoded.quoted == NumericRange(empty=True)


@pytest.mark.parametrize(
    "raw", ["[]", '{"new": 1}', with_new('{"id": ' + DEEP + "}"), "{", "", '{"op": 1}']
)
def test_malformed_with_odd_column_names(raw: str) -> None:
    with pytest.raises(PayloadError, match=r"rows\.Odd"):
        decode(Odd, raw)


# ------------------------------------------------------------------------------------ queries


def test_ordinary_rows_need_no_query(django_assert_num_queries: Any) -> None:
    quick = {name: values[0] for name, values in FIELDS if "range" not in name}
    Everything.objects.create(**quick)
    raw = sent(Everything)
    with django_assert_num_queries(0):
        decode(Everything, raw)


def test_asking_takes_one_query_in_a_savepoint(django_assert_num_queries: Any) -> None:
    Everything.objects.create(integer_range=NumericRange(1, 2), date_range=DateRange(empty=True))
    raw = sent(Everything)
    with django_assert_num_queries(3):
        decode(Everything, raw)


def test_a_refusal_does_not_spoil_the_transaction() -> None:
    Licence.objects.create(number="kept")
    with pytest.raises(PayloadError, match="malformed range literal"):
        decode(Everything, payload({"id": 1, "integer_range": "x"}))
    assert Licence.objects.count() == 1


def test_errors_of_the_connection_are_not_the_payloads() -> None:
    """A PayloadError parks a message at once, so a broken transaction must not look like one."""
    with pytest.raises(OperationalError):
        decode(Exotic, payload({"id": 1, "looked_up": "x"}))
    raw = payload({"id": 1, "integer_range": "[1,2)"})
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            decode(Everything, raw)
    with transaction.atomic():
        with connections["default"].connection.cursor() as cursor, suppress(Exception):
            cursor.execute("SELECT 1/0")  # behind Django's back
        with pytest.raises(InternalError):
            decode(Everything, raw)
        transaction.set_rollback(True)


# ---------------------------------------------------------------------------------- extensions


@pytest.fixture
def words(db: None) -> Iterator[type[Words]]:
    """A table with columns of extension types; embedded servers do not bring these."""
    available = "SELECT count(*) FROM pg_available_extensions WHERE name IN ('citext', 'hstore')"
    if execute(available) < 2:
        pytest.skip("this server does not bring the extensions citext and hstore")
    execute("CREATE EXTENSION IF NOT EXISTS citext")
    execute("CREATE EXTENSION IF NOT EXISTS hstore")
    _register_types()
    with connection.schema_editor() as editor:
        editor.create_model(Words)
    yield Words
    _register_types(forget=True)


def _register_types(*, forget: bool = False) -> None:
    signals.get_hstore_oids.cache_clear()
    signals.get_citext_oids.cache_clear()
    if not forget:
        signals.register_type_handlers(connection)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("folded", "Größe"),
        ("array_folded", ["A", "b,c"]),
        ("store", {}),
        ("store", {"a": "1", "b": None, 'c"\\=>': "☃ NULL"}),
        ("array_store", [{"a": None}, None, {}]),
    ],
)
def test_types_of_extensions(
    words: type[Words], name: str, value: Any, django_assert_num_queries: Any
) -> None:
    words.objects.create(**{name: value})
    raw, fetched = sent(words), words.objects.get()
    with django_assert_num_queries(0):
        decoded = new(words, raw)
    assert_same(decoded, fetched)
    assert getattr(fetched, name) == value
