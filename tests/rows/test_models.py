"""Models with parents, links, composite keys or odd column names."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db.backends.postgresql.psycopg_any import NumericRange

from pgpubsub_sql.errors import PayloadError
from tests.rows.fields import Celsius
from tests.rows.models import (
    Bar,
    Comparison,
    Odd,
    Pizzeria,
    Place,
    Plain,
    PlainProxy,
    Profile,
    Reading,
    Remembering,
    Restaurant,
    Unspeakable,
    Visit,
)
from tests.rows.support import (
    UTC,
    assert_same,
    decode,
    execute,
    new,
    payload,
    sent,
    watch_model,
    with_new,
)

pytestmark = pytest.mark.django_db
DEEP = "[" * 100_000 + "]" * 100_000


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


def test_multi_table_inheritance_defers_two_levels_of_parents() -> None:
    made = Pizzeria.objects.create(name="Da", stars=1, oven="wood")
    decoded = new(Pizzeria, sent(Pizzeria))
    assert_same(decoded, made, "name", "stars")
    decoded.save()
    assert_same(Pizzeria.objects.get(), made)


def test_multi_table_inheritance_defers_fields_of_two_parents() -> None:
    made = Bar.objects.create(name="B", number="7", closes=dt.time(3))
    decoded = new(Bar, sent(Bar))
    assert_same(decoded, made, "name", "number")
    decoded.save()
    assert_same(Bar.objects.get(), made)


def test_a_one_to_one_primary_key_is_set() -> None:
    Profile.objects.create(place=Place.objects.create(name="x"), note="n")
    assert_same(new(Profile, sent(Profile)), Profile.objects.get())


def test_a_composite_primary_key_is_set() -> None:
    """P22: composite primary keys raise."""
    place = Place.objects.create(name="x")
    Visit.objects.create(place=place, day=dt.date(2026, 1, 31), guests=4)
    decoded = new(Visit, sent(Visit))
    assert decoded.pk == (place.code, dt.date(2026, 1, 31))
    assert_same(decoded, Visit.objects.get())
    with pytest.raises(PayloadError, match=r"rows\.Visit\.day: .*primary key"):
        decode(Visit, payload({"place_id": str(place.code)}))


def test_a_foreign_key_to_a_converted_primary_key_is_converted() -> None:
    Comparison.objects.create(reading=Reading.objects.create(celsius=Decimal("1.5")))
    decoded = new(Comparison, sent(Comparison))
    assert decoded.reading_id == Celsius(Decimal("1.50"))
    assert_same(decoded, Comparison.objects.get())


def test_proxy_models_get_proxy_instances() -> None:
    made = PlainProxy.objects.create(price=1, created=dt.datetime(2026, 1, 1, tzinfo=UTC))
    decoded = new(PlainProxy, sent(Plain))
    assert type(decoded) is PlainProxy
    assert_same(decoded, PlainProxy.objects.get(pk=made.pk))


def test_a_models_own_from_db_is_called() -> None:
    assert new(Remembering, payload({"id": 1, "size": 2})).loaded == {"id": 1, "size": 2}


# --------------------------------------------------------------------------------- odd names


def test_odd_column_names_are_decoded() -> None:
    names = [field.name for field in Odd._meta.concrete_fields if field.name != "capital"]
    Odd.objects.create(
        **{name: number for number, name in enumerate(names)}, capital=NumericRange(1, 2)
    )
    assert_same(new(Odd, sent(Odd)), Odd.objects.get())


def test_column_names_that_django_cannot_query_are_decoded() -> None:
    execute(
        'CREATE TABLE rows_unspeakable (id integer, "$id" integer, "new\nline\t" integer,'
        ' op integer, "100%s" int4range, "a""b" int4range)'
    )
    watch_model(Unspeakable)
    execute("INSERT INTO rows_unspeakable VALUES (1, 7, 8, 9, '[1,2)', 'empty')")
    decoded = new(Unspeakable, sent(Unspeakable))
    assert (decoded.dollar, decoded.newline, decoded.operation) == (7, 8, 9)
    assert decoded.percent == NumericRange(1, 2)
    assert decoded.quoted == NumericRange(empty=True)


@pytest.mark.parametrize(
    "raw", ["[]", '{"new": 1}', with_new('{"id": ' + DEEP + "}"), "{", "", '{"op": 1}']
)
def test_malformed_messages_with_odd_column_names_raise_payload_errors(raw: str) -> None:
    with pytest.raises(PayloadError, match=r"rows\.Odd"):
        decode(Odd, raw)
