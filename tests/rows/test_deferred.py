"""Columns that do not travel are deferred, never blank."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import NumericRange

from tests.rows.models import Cube, Everything, Licence, Lossy, Square
from tests.rows.support import (
    assert_same,
    decode,
    execute,
    new,
    payload,
    sent,
    stored,
    watch_model,
)
from tests.triggers.tables import watch

pytestmark = pytest.mark.django_db
ROW = {"licence_id": 1, "number": "x"}


def test_columns_that_did_not_travel_are_deferred() -> None:
    """P22: deferred, never blank."""
    licence = Licence.objects.create(number="A 1")
    decoded = new(Licence, payload({"licence_id": licence.pk}))
    assert decoded.get_deferred_fields() == {"number"}
    decoded.save()
    licence.refresh_from_db()
    assert licence.number == "A 1"
    assert decoded.number == "A 1"


def test_deferred_fields_of_a_deleted_row_cannot_be_read() -> None:
    licence = Licence.objects.create(number="A 1")
    row = {"licence_id": licence.pk}
    licence.delete()
    with pytest.raises(Licence.DoesNotExist):
        _ = decode(Licence, payload(old=row, op="DELETE")).old.number


def test_unknown_columns_are_ignored() -> None:
    assert_same(new(Licence, payload({**ROW, "added": [1], "Number": 2})), Licence(1, "x"))


def test_rows_are_decoded_after_their_table_changed() -> None:
    """The model decides, so neither dropped columns nor a lost table hurt, in any schema."""
    Everything.objects.create(integer_range=NumericRange(1, 5), char="x", decimal=Decimal("1.5"))
    raw, fetched = sent(Everything), Everything.objects.get()
    execute("DROP TABLE rows_everything CASCADE")
    assert_same(new(Everything, raw), fetched)


def test_values_of_a_widened_column_are_not_truncated() -> None:
    """A cast to the declared length would refuse the text, one to the scale round the number."""
    wide = {"char": "x" * 1000, "array_char": [["x" * 1000]], "array_decimal": [[1.123456789]]}
    decoded = new(Everything, payload({"id": 1} | wide))
    assert decoded.char == wide["char"]
    assert decoded.array_char == wide["array_char"]
    assert decoded.array_decimal == [[Decimal("1.123456789")]]


def test_generated_columns_are_deferred_before_the_write() -> None:
    watch("rows_square", channel="before", after=(), before=("insert", "update"))
    Square.objects.create(side=2)
    assert_same(new(Square, stored("before")), Square.objects.get(), "area")
    fetched = Square.objects.get()
    Square.objects.update(side=3)
    change = decode(Square, stored("before"))
    assert_same(change.old, fetched)
    assert_same(change.new, Square.objects.get(), "area")


def test_virtual_columns_are_null_in_triggers_and_so_deferred() -> None:
    """Since version 18 of PostgreSQL; they are computed when they are read."""
    if connection.pg_version < 180000:
        pytest.skip("this server has no virtual columns")
    execute(
        "CREATE TABLE rows_cube (id integer PRIMARY KEY, side integer,"
        " volume bigint GENERATED ALWAYS AS (side::bigint ^ 3) VIRTUAL)"
    )
    watch_model(Cube)
    watch("rows_cube", channel="each", level="row", before=("insert", "update", "delete"))
    Cube.objects.create(id=1, side=3)
    assert execute("SELECT volume FROM rows_cube") == 27
    for channel in ("rows.Cube", "each"):
        decoded = new(Cube, stored(channel))
        assert_same(decoded, Cube.objects.get(), "volume")
        assert decoded.volume == 27, "fetched when it is asked for"


def test_virtual_columns_that_travel_are_set() -> None:
    assert new(Cube, payload({"id": 1, "side": 3})).get_deferred_fields() == {"volume"}
    assert new(Cube, payload({"id": 1, "side": 3, "volume": 27})).volume == 27


def test_types_that_json_rounds_or_localizes_are_deferred() -> None:
    """PostGIS rounds coordinates in JSON, and money depends on the writer's locale."""
    decoded = new(Lossy, payload({"id": 1, "where": {"type": "Point"}, "price": "$1,000.00"}))
    assert decoded.get_deferred_fields() == {"where", "price"}
