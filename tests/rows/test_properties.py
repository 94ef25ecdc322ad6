"""Property tests: any row equals a queryset's, and any garbage raises PayloadError."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpubsub_sql.errors import PayloadError
from tests.rows.models import Everything
from tests.rows.strategies import DURATIONS, JSON, ROWS, TEXT, WRITTEN_BY_SQL, property_test
from tests.rows.support import assert_same, decode, execute, new, round_trip, session, spelled

pytestmark = pytest.mark.django_db


def test_strategies_draw_every_column() -> None:
    names = {field.name for field in Everything._meta.concrete_fields}
    assert {"id", *ROWS} | WRITTEN_BY_SQL == names


@property_test
@given(values=st.fixed_dictionaries({}, optional=ROWS))
def test_any_row_equals_a_querysets(values: dict[str, Any]) -> None:
    """P21, P22."""
    round_trip(**values)


@property_test
@given(
    value=DURATIONS,
    style=st.sampled_from(["postgres", "iso_8601", "sql_standard", "postgres_verbose"]),
    months=st.integers(-1000, 1000),
    days=st.integers(-1000, 1000),
)
def test_any_interval_in_any_style_equals_a_querysets(
    value: dt.timedelta, style: str, months: int, days: int
) -> None:
    Everything.objects.all().delete()
    Everything.objects.create()
    execute(
        "UPDATE rows_everything SET duration = %s + make_interval(months => %s, days => %s)",
        value,
        months,
        days,
    )
    with session("IntervalStyle", style):
        raw = spelled(Everything)
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
def test_garbage_raises_nothing_but_payload_error(raw: str | bytes) -> None:
    with suppress(PayloadError):
        decode(Everything, raw)
    assert execute("SELECT 1") == 1, "the transaction goes on"
