"""A condition holds for the changes for which a filter over two foreign keys does."""

from __future__ import annotations

import datetime as dt
import operator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import F, Q
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgpubsub_sql.errors import ConditionError
from pgpubsub_sql.sql.conditions import compile_condition
from tests.conditions.corpus import CONDITIONS, HOSTILE
from tests.conditions.models import Thing
from tests.conditions.oracle import by_filter

pytestmark = pytest.mark.django_db

# Settings of a writer must not change the meaning of a condition.
HOSTILE_SESSION = {
    "standard_conforming_strings": "off",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
}


def by_sql(condition: Q) -> set[int]:
    """Return the changes for which the compiled condition holds, in a hostile session."""
    compiled = compile_condition(Thing, condition)
    session = HOSTILE_SESSION | {"timezone": compiled.timezone}
    with transaction.atomic(), connection.cursor() as cursor:
        for name, value in session.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])
        cursor.execute(
            "SELECT change.id FROM conditions_change AS change"
            " LEFT JOIN conditions_thing AS old ON old.id = change.old_id"
            " LEFT JOIN conditions_thing AS new ON new.id = change.new_id"
            f" WHERE true AND {compiled.sql}",
            None,
        )
        found = {pk for (pk,) in cursor.fetchall()}
        transaction.set_rollback(True)  # and the session is Django's again
    return found


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_holds_where_a_filter_does(name: str, changes: int) -> None:
    """T7: every kind of lookup, transform and expression."""
    held = by_sql(CONDITIONS[name])
    assert held == by_filter(CONDITIONS[name])
    assert 0 < len(held) < changes, "the rows do not tell this condition from any other"


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name.startswith("time")])
@pytest.mark.parametrize("aware", [True, False], ids=["aware", "naive"])
def test_hours_and_dates_are_in_the_time_zone_of_the_project(
    name: str, aware: bool, changes: int, settings: Any
) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "America/New_York", aware
    assert by_sql(CONDITIONS[name]) == by_filter(CONDITIONS[name])


def test_a_datetime_without_a_zone_is_in_the_time_zone_of_the_project(
    changes: int, settings: Any
) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "America/New_York", False
    eight_in_the_morning = dt.datetime(2026, 3, 29, 8)
    for condition in (
        Q(new__moment=eight_in_the_morning),
        Q(new__moment__in=[eight_in_the_morning]),
        Q(new__moment__date=dt.date(2026, 3, 29), new__moment__hour=8),
        Q(new__period__startswith=eight_in_the_morning),
        Q(new__period__contains=DateTimeTZRange(eight_in_the_morning, dt.datetime(2026, 3, 29, 9))),
    ):
        assert by_sql(condition) == by_filter(condition) != set()


def leaves() -> st.SearchStrategy[Q]:
    """Return conditions of one lookup, which compares a field with a value or a field.

    All fields are nullable. For others, Django's answer depends on whether it has an outer or an
    inner join already, while a condition has no joins.
    """
    row = st.sampled_from(["old", "new"])
    comparison = st.sampled_from(["exact", "gt", "lte"])
    values = {
        "number": st.integers(-8, 8) | st.none(),
        "name": st.sampled_from(["", "Zoë", "o", "%", HOSTILE]) | st.none(),
        "flag": st.booleans() | st.none(),
        "owner": st.sampled_from([1, 2]) | st.none(),
        "day": st.dates(dt.date(2026, 3, 1), dt.date(2026, 4, 30)) | st.none(),
        "data__a__0": st.sampled_from([1, 2]) | st.none(),
    }

    def leaf(field: str) -> st.SearchStrategy[Q]:
        name = st.builds("{}__{}".format, row, st.just(field))
        lists = st.lists(values[field], max_size=3)
        return st.one_of(
            st.builds(lambda n, v: Q((n, v)), name, values[field]),
            st.builds(lambda n, v: Q((f"{n}__in", v)), name, lists),
            st.builds(lambda n, v: Q((f"{n}__isnull", v)), name, st.booleans()),
            st.builds(lambda n, c, m: Q((f"{n}__{c}", F(m))), name, comparison, name),
        )

    return st.sampled_from(sorted(values)).flatmap(leaf)


def trees(children: st.SearchStrategy[Q]) -> st.SearchStrategy[Q]:
    return st.one_of(
        st.builds(operator.and_, children, children),
        st.builds(operator.or_, children, children),
        st.builds(operator.xor, children, children),
        st.builds(operator.invert, children),
    )


@given(condition=st.recursive(leaves(), trees, max_leaves=8))
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_condition_of_any_shape_holds_where_a_filter_does(condition: Q, changes: int) -> None:
    """T7: NULL, a missing row, NOT, OR and XOR mean what they mean in a filter."""
    held = by_filter(condition)
    says_nothing = len(held) in (0, changes)  # and then it may be refused
    with suppress(ConditionError) if says_nothing else nullcontext():
        assert by_sql(condition) == held
