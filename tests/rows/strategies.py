"""A hypothesis strategy for every column of ``Everything`` that Django can save."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.rows.fields import Celsius
from tests.rows.models import Colour
from tests.rows.support import UTC

property_test = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

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


def cubes(sizes: tuple[int, int, int]) -> st.SearchStrategy[Any]:
    """Arrays of arrays of arrays: PostgreSQL wants those of a dimension to be of one length."""
    cells = BIG
    for size in sizes:
        cells = st.lists(cells, min_size=size, max_size=size)
    return cells


def ranges(kind: Any, bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def build(pair: list[Any], limits: str) -> Any:
        return kind(*pair, limits)

    pairs = st.lists(bounds, min_size=2, max_size=2).map(sorted)
    halves = st.tuples(st.none(), bounds) | st.tuples(bounds, st.none())
    return st.builds(build, pairs | halves, st.sampled_from(["[)", "(]", "()", "[]"]))


INTEGERS = st.integers(-(2**31), 2**31 - 1)
BIG = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-(2**15), 2**15 - 1)
REALS = st.floats(width=32).filter(lambda value: repr(value) != "-0.0")
DATE_RANGES = ranges(DateRange, st.dates(max_value=dt.date(9999, 12, 30)))
ADDRESSES = st.ip_addresses().map(str)
ROWS: dict[str, st.SearchStrategy[Any]] = {
    "array": arrays(INTEGERS),
    "array_big_range": arrays(ranges(NumericRange, st.integers(-(2**63), 2**63 - 2))),
    "array_binary": arrays(st.binary(max_size=20)),
    "array_boolean": arrays(st.booleans()),
    "array_char": st.lists(st.none() | TEXT, max_size=3),
    "array_cube": st.tuples(*[st.integers(1, 3)] * 3).flatmap(cubes),
    "array_date": arrays(st.dates()),
    "array_datetime": arrays(MOMENTS),
    "array_decimal": arrays(st.decimals(-999_999, 999_999, places=3)),
    "array_duration": arrays(DURATIONS),
    "array_float": arrays(FLOATS),
    "array_ip": arrays(ADDRESSES),
    "array_json": st.lists(JSON.filter(lambda value: not isinstance(value, list))),
    "array_nested": st.lists(st.tuples(st.none() | st.times(), st.times()).map(list), max_size=3),
    "array_range": arrays(DATE_RANGES),
    "array_size": arrays(INTEGERS),
    "array_text": arrays(TEXT),
    "array_uuid": arrays(st.uuids()),
    "big": BIG,
    "big_range": ranges(NumericRange, st.integers(-(2**63), 2**63 - 2)),
    "binary": st.binary(max_size=100),
    "boolean": st.booleans(),
    "celsius": st.decimals(-200, 9999, places=2).map(Celsius),
    "char": TEXT,
    "choice": st.sampled_from(Colour),
    "date": st.dates(),
    "date_range": DATE_RANGES,
    "datetime": MOMENTS,
    "datetime_range": ranges(DateTimeTZRange, MOMENTS),
    "decimal": DECIMALS,
    "decimal_range": ranges(NumericRange, DECIMALS),
    "duration": DURATIONS,
    "email": st.emails(),
    "file": TEXT,
    "float": FLOATS,
    "integer": INTEGERS,
    "integer_range": ranges(NumericRange, st.integers(-(2**31), 2**31 - 2)),
    "ip": ADDRESSES,
    "json": JSON,
    "json_exact": JSON,
    "nothing": TEXT,
    "numeric": st.decimals(allow_nan=False, allow_infinity=False) | st.just(Decimal("NaN")),
    "padded": st.text("abc ", max_size=4),
    "path": TEXT,
    "positive": st.integers(0, 2**31 - 1),
    "positive_big": st.integers(0, 2**63 - 1),
    "positive_small": st.integers(0, 2**15 - 1),
    "python_only": TEXT,
    "real": REALS,
    "size": INTEGERS,
    "slug": st.from_regex(r"[-a-z0-9_]*", fullmatch=True).map(lambda slug: slug[:50]),
    "small": SMALL,
    "text": TEXT,
    "time": st.times(),
    "url": TEXT,
    "uuid": st.uuids(),
}
WRITTEN_BY_SQL = {"bits", "point", "search_query", "search_vector", "shouted", "zoned_time"}
