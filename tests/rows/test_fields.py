"""Every field of Django: its values and types equal a queryset's."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib import postgres
from django.contrib.postgres import fields as postgres_fields
from django.db import DatabaseError, connection, models, transaction

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.rows.row_decoder import row_decoder
from tests.rows.conftest import tables
from tests.rows.models import Colour, Everything, Exotic, Licence, Words
from tests.rows.support import (
    assert_same,
    decode,
    execute,
    new,
    payload,
    round_trip,
    same,
    sent,
)
from tests.rows.values import FIELDS, ONLY_SQL

pytestmark = pytest.mark.django_db


# Which fields there are.


def fields_of(package: ModuleType) -> Iterator[type[models.Field]]:
    """Every class of fields within a package, however deep its module is hidden."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, models.Field):
                yield value


NO_COLUMN = {
    models.Field: "a base class",
    models.fields.related.RelatedField: "a base class",
    postgres_fields.ranges.ContinuousRangeField: "a base class",
    postgres_fields.RangeField: "a base class",
    models.ForeignObject: "it joins by columns of other fields",
    models.ManyToManyField: "its rows are those of another table",
    models.CompositePrimaryKey: "it is made of other fields",
}
DJANGOS = {
    field
    for package in (models, postgres)
    for field in fields_of(package)
    if field.__module__.startswith("django.") and not field.__name__.startswith("_")
    if not field.system_check_removed_details
}


@pytest.mark.parametrize("field", sorted(DJANGOS - set(NO_COLUMN), key=lambda f: f.__name__))
def test_every_django_field_is_tested_here(field: type[models.Field]) -> None:
    """So that a field that Django adds fails here instead of being forgotten.

    ``test_every_model.py`` makes a row of every table, and :data:`FIELDS` has the values.
    """
    columns = [column for model in [*tables(), Words] for column in model._meta.local_fields]
    assert [column for column in columns if type(column) is field]


# Every value.


def test_every_field_of_the_test_model_has_values() -> None:
    names = {field.name for field in Everything._meta.concrete_fields}
    assert {"id", *FIELDS, *ONLY_SQL} == names


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in FIELDS.items() for value in [None, *values]],
)
def test_values_and_types_equal_a_querysets(name: str, value: Any) -> None:
    """P21, P22: JSON floats stay floats; bytea, ranges and arrays of dates are what they were."""
    round_trip(**{name: value})


def test_json_keeps_the_type_of_numbers() -> None:
    """P21: the predecessor makes a string of 1.5."""
    assert same(round_trip(json={"a": 1.5, "b": 1}).json, {"a": 1.5, "b": 1})


def test_a_percent_sign_in_a_type_is_escaped() -> None:
    execute('CREATE DOMAIN "per%cent" AS integer CHECK (value < 100)')
    assert new(Exotic, payload({"id": 1, "percent": 99})).percent == 99
    with pytest.raises(PayloadError, match=r"rows\.Exotic\.percent: .*check constraint"):
        decode(Exotic, payload({"id": 1, "percent": 101}))


def test_postgresql_enumerations_are_read_by_postgresql() -> None:
    """PostgreSQL reads what it has written, and refuses what is none of theirs."""
    execute("CREATE TYPE mood AS ENUM ('happy', 'so, so')")
    assert new(Exotic, payload({"id": 1, "mood": "so, so"})).mood == "so, so"
    with pytest.raises(PayloadError, match=r"rows\.Exotic\.mood: invalid input value for enum"):
        decode(Exotic, payload({"id": 1, "mood": "sad"}))


def test_fields_selected_as_expressions_are_deferred() -> None:
    decoded = new(Exotic, payload({"id": 1, "doubled": 1}))
    assert "doubled" in decoded.get_deferred_fields()


def test_converters_of_the_database_backend_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend of a third party may bring its own, and they run before the fields'."""

    def shout(value: Any, expression: Any, connection: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    monkeypatch.setattr(connection.ops, "get_db_converters", lambda expression: [shout])
    row_decoder.cache_clear()
    assert new(Licence, payload({"licence_id": 1, "number": "x"})).number == "X"
    monkeypatch.undo()
    row_decoder.cache_clear()
    assert new(Licence, payload({"licence_id": 1, "number": "x"})).number == "x"


def test_file_fields_and_choices_behave_as_usual() -> None:
    decoded = round_trip(file="a/b.txt", choice=Colour.GREEN)
    assert decoded.file.name == "a/b.txt"
    assert decoded.get_choice_display() == "Green"


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ONLY_SQL.items() for value in values]
)
def test_values_that_only_sql_can_write_equal_a_querysets(name: str, value: str) -> None:
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


@pytest.mark.parametrize("value", ["'infinity'", "'-infinity'"])
def test_infinite_durations_equal_a_querysets(value: str) -> None:
    """Since version 17 of PostgreSQL."""
    if connection.pg_version < 170000:
        pytest.skip("this server has no infinite intervals")
    test_values_that_only_sql_can_write_equal_a_querysets("duration", value)
