"""Conditions on anything but two rows of one table are refused, with the reason and a remedy."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import (
    Count,
    Exists,
    F,
    Func,
    OuterRef,
    Q,
    Subquery,
    TextField,
    Value,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Now, Rank
from django.db.models.lookups import Exact, GreaterThan, IsNull

from pgpubsub_sql.errors import ConditionError
from pgpubsub_sql.sql.conditions import compile_condition
from tests.conditions.models import Change, Owner, Thing, Unspeakable
from tests.rows.models import Cube, Pizzeria, Place, Restaurant, Visit

deep = Q(new__number=1)
for _ in range(5000):
    deep = ~(deep | Q(new__name="x"))


class Stranger:
    def __repr__(self) -> str:
        return "<a stranger>"


NOT_A_CONDITION = [
    ("new.name = 'x'", "is not a Q: wrap it, as Q(…)"),
    (None, "None is not a Q"),
    ({"new__name": "x"}, "is not a Q"),
    (Exact(F("new__name"), "x"), "is not a Q: wrap it"),
    (Q(), "It is empty. Leave the option out"),
    (Q(5), "Django cannot compile it"),
    (Q(F("new__flag")), "Cannot filter against a non-conditional expression"),
    (deep, "Django cannot compile it: maximum recursion depth"),
]

ALWAYS_OR_NEVER = [
    (Q(new__number__in=[]), "always true or always false"),
    (~Q(new__number__in=[]), "always true or always false"),
    (Q(new__number=None) | ~Q(old__number__in=[]), "always true or always false"),
    (Q(new__number__lt=-(2**40)), "always true or always false"),
    (~Q(Q()), "It is always true or always false"),
    (Q(Value(True)), "It reads no field"),
    (Q(GreaterThan(Now(), Value(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))), "It reads no field"),
]

NAMES = [
    (Q(name="x"), "'name' does not say which row it refers to: write 'new__name'"),
    (Q(name__startswith="x"), "write 'new__name__startswith' for the row after"),
    (Q(**{"": 1}), "Cannot parse keyword query"),
    (Q(new="x"), "'new' is a row: name a field of it, such as 'new__pk'"),
    (Q(old__isnull=True), "conditions.Thing has no field 'isnull'. It has id, kind, name"),
    (Q(new__=1), "conditions.Thing has no field ''"),
    (Q(new__numer=1), "conditions.Thing has no field 'numer'. Did you mean 'number'?"),
    (Q(new__numer__gt=1), "Did you mean 'number'?"),
    (Q(Exact(F("new__numer"), 1)), "Did you mean 'number'?"),
    (Q(new__number=F("numer")), "'numer' does not say which row it refers to"),
    (Q(new__number__gte__foo=1), "Unsupported lookup 'gte__foo' for IntegerField"),
    (Q(new__name__strtswith=1), "perhaps you meant startswith"),
    (Q(new__name=OuterRef("name")), "Django cannot compile it"),
    (Q(**{"new__name; DROP TABLE x; --": 1}), "has no field 'name; DROP TABLE x; --'"),
]

OTHER_ROWS = [
    (Q(new__owner__name="x"), "reads conditions.Owner.name, which is in another table. A trigger"),
    (Q(new__name=F("new__owner__name")), "reads conditions.Owner.name"),
    (~Q(new__parent__parent=1), "It reads conditions.Thing.parent, which is in another table"),
    (Q(new__thing__name="x"), "It reads conditions.Thing.name"),
    (~Q(new__thing__name="x"), "It reads another table"),
    (Q(new__owner__in=Owner.objects.all()), "It contains a subquery. A trigger sees only"),
    (Q(new__owner=Owner.objects.all()[:1]), "It contains a subquery"),
    (Q(Exists(Owner.objects.filter(pk=OuterRef("new__owner")))), "It contains a subquery"),
    (Q(Exact(F("new__name"), Subquery(Owner.objects.values("name")))), "contains a subquery"),
    (Q(new__tags=ArraySubquery(Owner.objects.values("name"))), "It contains a subquery"),
    (Q(Exact(Count("new__number"), 1)), "It aggregates, but a trigger sees only the row"),
    (Q(Exact(Window(Rank(), order_by="new__number"), 1)), "It has a window function"),
    (Q(RawSQL("new.name = %s", ["x"], TextField())), "Cannot filter against"),
    (Q(IsNull(RawSQL("new.name", []), True)), "It contains RawSQL"),
]

VALUES = [
    (Q(new__number="seven"), "Field 'number' expected a number but got 'seven'"),
    (Q(new__moment="yesterday"), "“yesterday” value has an invalid format"),
    (Q(new__amount=Decimal("NaN")), "“NaN” value must be a decimal number"),
    (Q(new__owner=Owner()), "Model instances passed to related filters must be saved"),
    (Q(new__owner=Thing(pk=1)), 'Must be "Owner" instance'),
    (Q(new__name__gt=None), "Cannot use None as a query value"),
    (Q(new__name="a\0b"), "contains a NUL, which PostgreSQL's text cannot hold"),
    (Q(new__name="\ud800"), "cannot be written as UTF-8"),
    (Q(new__data={"a": ["b\0"]}), "contains a NUL, which PostgreSQL's text cannot hold"),
    (Q(new__data={"a": float("nan")}), "JSON has no NaN"),
    (Q(new__data={"a": {1, 2}}), "is not JSON that PostgreSQL accepts"),
    (Q(new__data={"a": "\ud800"}), "cannot be written as UTF-8"),
    (Q(new__hour=dt.time(1, tzinfo=dt.UTC)), "has a time zone, and PostgreSQL's time has none"),
    (Q(Exact(Cast(Value(Stranger()), TextField()), "x")), "<a stranger> of type Stranger has no"),
    (Q(new__number__in=iter([1, 2])), "can be read only once: make a list of it"),
    (Q(new__number__in=(n for n in [1])), "can be read only once"),
    (Q(Func(F("new__name"), template="%(x)s", output_field=TextField())), "Cannot filter"),
    (Q(Exact(Func(F("new__name"), template="%(nothing)s"), 1)), "Django cannot compile it"),
    (Q(Exact(Func(F("new__name"), template="$pgpubsub$"), 1)), r"A name in it contains $pgpub"),
]


@pytest.mark.parametrize(
    ("condition", "reason"), [*NOT_A_CONDITION, *ALWAYS_OR_NEVER, *NAMES, *OTHER_ROWS, *VALUES]
)
def test_a_condition_that_cannot_be_compiled_is_refused(condition: Any, reason: str) -> None:
    """T7."""
    with pytest.raises(ConditionError) as caught:
        compile_condition(Thing, condition)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("model", "condition", "reason"),
    [
        (Restaurant, Q(new__name="x"), "rows.Place.name, which is in another table. Watch that"),
        (Pizzeria, Q(new__stars=1), "reads rows.Restaurant.stars"),
        (Pizzeria, Q(old__code=F("new__name")), "reads rows.Place.name"),
        (Place, Q(new__restaurant__stars=1), "reads rows.Restaurant.stars"),
        (Visit, Q(new__pk=1), "Django cannot compile it"),
        (Visit, Q(new__place__name="x"), "reads rows.Place.name"),
        (Cube, Q(new__volume=8), "rows.Cube.volume is computed when it is read, and NULL for a"),
        (Unspeakable, Q(new__delimiter=1), "A name in it contains $pgpubsub$"),
        (Change, Q(new__new__number=1), "reads conditions.Thing.number"),
    ],
)
def test_a_field_outside_the_row_is_refused(model: Any, condition: Q, reason: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(model, condition)
    assert reason in str(caught.value)


def test_a_refusal_has_djangos_error_as_its_cause() -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(Thing, Q(new__number="seven"))
    assert isinstance(caught.value.__cause__, ValueError)
