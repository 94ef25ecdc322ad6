"""From a Q over old and new rows to SQL, and what it says of every change."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Count, Exists, F, Q, Value, Window
from django.db.models.functions import RowNumber
from django.db.models.lookups import Exact

from pgpubsub_sql.errors import ConditionError
from pgpubsub_sql.sql.conditions import compile_condition
from tests.rows.models import Place, Plain, Restaurant, Visit


def sql(condition: Q, model: Any = Plain) -> str:
    return compile_condition(model, condition).sql


def test_a_condition_is_one_expression() -> None:
    """T7: always in parentheses."""
    assert sql(Q(new__title="a") | Q(old__views__gt=F("new__views"))) == (
        """(("new"."title" = 'a' OR "old"."views" > ("new"."views")))"""
    )


def test_a_condition_tells_what_it_reads() -> None:
    condition = compile_condition(Visit, Q(new__place=None) | Q(old__guests=F("new__guests")))
    assert condition.fields == ("guests", "place")
    assert condition.columns == ("guests", "place_id")


@pytest.mark.parametrize(
    ("model", "condition", "reason"),
    [
        (Plain, Q(), "It is empty"),
        (Plain, "new.title", "is not a Q"),
        (Plain, Q(new__id__in=[]), "always, or never, true"),
        (Plain, ~Q(new__id__in=[]), "always, or never, true"),
        (Plain, Q(Value(True)), "reads no field"),
        (Plain, Q(title=1), "'title' names no field: begin with 'old__' or 'new__'"),
        (Plain, Q(new__titel=1), "rows.Plain has no field 'titel'. Did you mean 'title'?"),
        (Plain, Q(Exact(F("new__titel"), 1)), "Did you mean 'title'?"),
        (Plain, Q(new__title__foo=1), "Unsupported lookup 'foo'"),
        (Plain, Q(new__title="a\0b"), "contains a NUL"),
        (Visit, Q(new__place__name="x"), "It reads rows.Place.name, which is in another table"),
        (Visit, ~Q(new__place__visit__guests=1), "It reads another table"),
        (Visit, Q(new__place__in=Place.objects.all()), "It contains a subquery"),
        (Visit, Q(Exists(Place.objects.all())), "It contains a subquery"),
        (Visit, Q(Exact(Count("new__guests"), 1)), "It aggregates rows"),
        (Visit, Q(Exact(Window(RowNumber()), 1)), "It looks through a window"),
        (Restaurant, Q(new__name="x"), "in the table of the parent model"),
    ],
)
def test_what_cannot_become_sql_is_refused(model: Any, condition: Any, reason: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(model, condition)
    assert reason in str(caught.value)
