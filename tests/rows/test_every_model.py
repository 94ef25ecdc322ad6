"""A row of every table, inserted, updated and deleted, as real triggers send it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import NumericRange
from django.db.models import Model

from tests.rows.conftest import tables
from tests.rows.fields import Celsius
from tests.rows.models import (
    Bar,
    BigCounter,
    Comparison,
    Computed,
    Country,
    Everything,
    Letter,
    Licence,
    Odd,
    Picture,
    Pizzeria,
    Place,
    Plain,
    Profile,
    Reading,
    Remembering,
    Restaurant,
    SmallCounter,
    Square,
    Visit,
)
from tests.rows.support import UTC, assert_same, decode, execute, sent
from tests.rows.values import FIELDS

pytestmark = pytest.mark.django_db
MOMENT = dt.datetime(2026, 1, 31, 10, tzinfo=UTC)
COLD = Celsius(Decimal("-1.5"))
Copy = Letter.copies.through


def place() -> Place:
    return Place.objects.create(name="here")


def letter(**links: Any) -> Letter:
    country = Country.objects.create(code="no")
    return Letter.objects.create(country=country, **links)


def odd() -> Odd:
    names = [field.name for field in Odd._meta.concrete_fields if field.name != "capital"]
    numbers = {name: number for number, name in enumerate(names)}
    return Odd.objects.create(**numbers, capital=NumericRange(1, 2))


ROWS: dict[type[Model], Callable[[], Any]] = {
    Plain: lambda: Plain.objects.create(title="☃", price=Decimal("1.50"), created=MOMENT),
    Everything: lambda: Everything.objects.create(**{n: v[0] for n, v in FIELDS.items()}),
    Place: place,
    Restaurant: lambda: Restaurant.objects.create(name="Chez", stars=2),
    Pizzeria: lambda: Pizzeria.objects.create(name="Da", stars=1, oven="wood"),
    Licence: lambda: Licence.objects.create(number="A 1"),
    Bar: lambda: Bar.objects.create(name="B", number="7", closes=dt.time(3)),
    Profile: lambda: Profile.objects.create(place=place(), note="n"),
    Visit: lambda: Visit.objects.create(place=place(), day=dt.date(2026, 1, 31), guests=4),
    Reading: lambda: Reading.objects.create(celsius=COLD),
    Comparison: lambda: Comparison.objects.create(reading=Reading.objects.create(celsius=COLD)),
    SmallCounter: lambda: SmallCounter.objects.create(id=32767),
    BigCounter: lambda: BigCounter.objects.create(id=2**62),
    Country: lambda: Country.objects.create(code="no"),
    Letter: lambda: letter(
        restaurant=Restaurant.objects.create(name="Chez", stars=2),
        reading=Reading.objects.create(celsius=COLD),
    ),
    Copy: lambda: Copy.objects.create(letter=letter(), place=place()),
    Picture: lambda: Picture.objects.create(image="a/b.png", width=3, height=4),
    Odd: odd,
    Square: lambda: Square.objects.create(side=3),
    Computed: lambda: Computed.objects.create(text="three", data={"a": [1.5, None]}),
    Remembering: lambda: Remembering.objects.create(name="a", size=1),
}
PARENTS = {Restaurant: {"name"}, Pizzeria: {"name", "stars"}, Bar: {"name", "number"}}
"""Fields of other tables, which a row cannot tell."""


def test_every_table_has_a_row() -> None:
    assert set(ROWS) == set(tables())


@pytest.mark.parametrize("model", ROWS, ids=lambda model: model.__name__)
def test_instances_equal_a_querysets_or_are_deferred(model: type[Model]) -> None:
    """P22: on every path a row can take, or the field is deferred."""
    ROWS[model]()
    deferred = PARENTS.get(model, set())
    table, column = map(connection.ops.quote_name, (model._meta.db_table, _column(model)))
    inserted, fetched = decode(model, sent(model)), model.objects.get()
    execute(f"UPDATE {table} SET {column} = {column}")
    updated = decode(model, sent(model))
    execute("SET CONSTRAINTS ALL DEFERRED")
    execute(f"DELETE FROM {table}")
    deleted = decode(model, sent(model))
    assert [change.op for change in (inserted, updated, deleted)] == ["INSERT", "UPDATE", "DELETE"]
    assert (inserted.old, deleted.new) == (None, None)
    for seen in (inserted.new, updated.old, updated.new, deleted.old):
        assert_same(seen, fetched, *deferred)
        assert seen.pk == fetched.pk
        assert not seen._state.adding


def _column(model: type[Model]) -> str:
    return model._meta.local_concrete_fields[0].column
