"""Values for every column of :class:`~tests.rows.models.Everything`, easy and odd ones."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange

from tests.rows.fields import Celsius
from tests.rows.models import Colour, Size
from tests.rows.support import UTC

HUGE = 10**40 + 1
FIELDS: dict[str, list[Any]] = {
    "big": [0, -(2**63), 2**63 - 1],
    "binary": [b"", b"\x00\xff'\\x", bytes(range(256))],
    "boolean": [True, False],
    "char": ["", "null", 'a"b\\c', "\\u0000", "☃ 𝄞", " x ", "{}"],
    "choice": [Colour.RED, "?"],
    "date": [dt.date.min, dt.date(2026, 1, 31), dt.date.max],
    "datetime": [
        dt.datetime(1, 1, 1, tzinfo=UTC),
        dt.datetime(1890, 5, 5, 5, 5, 5, 5, tzinfo=UTC),
        dt.datetime(2026, 1, 31, 10, tzinfo=UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    "decimal": [Decimal("1.50"), Decimal("-0.00000000000000000001"), Decimal(10**19), Decimal(0)],
    "duration": [
        dt.timedelta(0),
        dt.timedelta(microseconds=-1),
        dt.timedelta(days=-1, hours=2, microseconds=3),
        dt.timedelta(days=400, hours=-1),
        dt.timedelta(days=36500, seconds=1.5),
    ],
    "email": ["a@example.org"],
    "file": ["", "a/b.txt"],
    "size": [Size.LARGE, 3],
    "path": ["/tmp/x"],
    "float": [1.5, 0.0, -1e300, 5e-324, 1.7976931348623157e308, 0.1, math.inf, -math.inf, math.nan],
    "integer": [-(2**31), 0, 2**31 - 1],
    "ip": ["192.168.0.1", "::1", "2001:db8::ff00:42:8329"],
    "json": [
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
    "json_exact": [{"a": 1.10}, [0.1, 2, None]],
    "positive": [2**31 - 1],
    "positive_big": [2**63 - 1],
    "positive_small": [32767],
    "slug": ["a-b_c"],
    "small": [-32768],
    "text": ["", "x" * 100_000, "\x01\x1f\x7f\ufffe"],
    "time": [dt.time.min, dt.time(10, 30), dt.time.max],
    "url": ["https://example.org/?a=b&c=%20"],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "big_range": [NumericRange(-(2**62), 2**62), NumericRange(None, 1, "(]")],
    "date_range": [
        DateRange(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "[]"),
        DateRange(None, dt.date(2026, 1, 1), "()"),
        DateRange(None, None),
        DateRange(empty=True),
    ],
    "datetime_range": [
        DateTimeTZRange(dt.datetime(2026, 1, 1, tzinfo=UTC), None, "()"),
        DateTimeTZRange(
            dt.datetime(1890, 1, 1, tzinfo=UTC), dt.datetime(2026, 1, 1, 1, tzinfo=UTC), "[]"
        ),
        DateTimeTZRange(empty=True),
    ],
    "decimal_range": [NumericRange(Decimal("1.50"), Decimal("2"), "(]"), NumericRange(empty=True)],
    "integer_range": [NumericRange(1, 5), NumericRange(1, 1), NumericRange(None, None)],
    "array": [[], [1, None, 3]],
    "array_big_range": [[NumericRange(-(2**62), None, "()"), None]],
    "array_boolean": [[True, None, False]],
    "array_cube": [[], [[[1], [2]], [[3], [2**62]]]],
    "array_binary": [[b"\x00\xff", None, b""]],
    "array_char": [["a,b", 'c"{}', None], ["NULL", "null", ""]],
    "array_date": [[dt.date(2026, 1, 31), None]],
    "array_datetime": [[dt.datetime(2026, 1, 31, 1, 2, 3, tzinfo=UTC), None]],
    "array_decimal": [[Decimal("1.500"), Decimal(-7)]],
    "array_duration": [[dt.timedelta(days=-3, hours=4), None]],
    "array_float": [[1.0, math.nan, None, -math.inf]],
    "array_ip": [["10.0.0.1", None]],
    "array_json": [[{"a": 1.5}, "x", HUGE], []],
    "array_nested": [[], [[dt.time(1), None], [dt.time(2), dt.time(3)]]],
    "array_range": [[DateRange(dt.date(2026, 1, 1), None), None, DateRange(empty=True)]],
    "array_size": [[Size.SMALL, 7]],
    "array_text": [["", None, "a\n\\'\"{}", "☃"]],
    "array_uuid": [[uuid.UUID(int=7), None]],
    "celsius": [Celsius(Decimal("36.60"))],
    "nothing": ["", "something"],
    "numeric": [Decimal("1E+400"), Decimal("1E-300"), Decimal("0.10"), Decimal("NaN")],
    "padded": ["a", "abcd"],
    "python_only": ["as it is"],
    "real": [0.1, -1.5, math.inf],
    "search_query": ["'a' & !'b c'"],
    "search_vector": ["", "'a':1A 'b c':2,3"],
}
ONLY_SQL = {
    "bits": ["'101'"],
    "point": ["'(1.5,2)'"],
    "shouted": ["'hey'"],
    "zoned_time": ["'12:00:00+05:30'", "'00:00:00+00'"],
    "decimal": ["'NaN'"],
    "numeric": ["'Infinity'", "'-Infinity'"],
    "real": ["'NaN'", "1e-45"],
    "duration": [
        "'1 year 2 mons -3 days 04:05:06.789'",
        "'-14 mons +3 days -00:00:00.5'",
        "'1 year -1 mon'",
        "'178000000 years'",
    ],
    "date": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'12026-01-01'"],
    "datetime": [
        "'infinity'",
        "'-infinity'",
        "'0044-03-15 12:00:00+00 BC'",
        "'12026-01-01 00:00:00+00'",
    ],
    "time": ["'24:00:00'"],
    "ip": ["'10.0.0.0/8'"],
    "array": ["'{{1,2},{3,4}}'", "'[5:6]={1,2}'"],
    "array_date": ["'{infinity,2026-01-01}'"],
    "array_datetime": ["'{-infinity}'"],
    "array_nested": ["'{10:00,11:00}'"],
    "array_decimal": ["'{NaN,1.5}'"],
    "array_json": ["ARRAY['null', '[1, [2]]', NULL, '1.10']::jsonb[]"],
    "json": ["'null'", "'1e5'", "'1.10'", "'1e-7'", "'1e4299'", "'1e5000'", "'[null]'"],
    "json_exact": ["'null'"],
    "date_range": ["'[2026-01-01,infinity)'", "'[-infinity,12026-01-01)'"],
    "datetime_range": ["'[infinity,infinity]'", "'(-infinity,2026-01-01)'"],
    "decimal_range": ["'[1,NaN]'", "'[-Infinity,1)'"],
}
"""What only SQL can write there."""
