"""Operations in migration files."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.writer import MigrationWriter

from pgpubsub_sql.migrations_ops.operations import AddTrigger, AlterTrigger, RemoveTrigger
from pgpubsub_sql.sql.trigger import Trigger
from tests.migrations.specifications import DELETES, INSERTS, SAVES, said


def rewritten(operation: Operation) -> Operation:
    """Return *operation* as a migration file has it."""
    migration = Migration("0001_test", "app")
    migration.operations = [operation]
    scope: dict[str, Any] = {}
    exec(MigrationWriter(migration).as_string(), scope)
    (found,) = scope["Migration"].operations
    return found


@pytest.mark.parametrize(
    "operation",
    [AddTrigger(SAVES), AlterTrigger(SAVES, DELETES), RemoveTrigger(SAVES)],
    ids=lambda operation: type(operation).__name__,
)
def test_written_operations_read_back_equal(operation: Operation) -> None:
    """T14: plain values alone, under a path that stays."""
    found = rewritten(operation)
    assert said(found) == said(operation)
    assert type(found).__module__ == "pgpubsub_sql.migrations_ops.operations"


def test_a_specification_written_by_hand_is_normalized() -> None:
    """T9: lists will do, and the case of a model's name does not matter."""
    operation = AddTrigger({"channel": "app.Test", "model": "app.Item", "after": ["insert"]})
    assert operation.trigger == dataclasses.replace(INSERTS, durable=False)
    assert operation.references_model("ITEM", "app")
    assert not operation.references_model("item", "blog")


def test_migrations_contain_every_field_of_a_specification() -> None:
    """T14: what a later release adds to the defaults does not change what is written today."""
    fields = [field.name for field in dataclasses.fields(Trigger)]
    assert list(INSERTS.deconstruct()) == fields
    assert fields == [
        *("channel", "model", "after", "before", "level", "durable"),
        *("columns", "watch", "condition", "timezone", "ordering_key", "ignorable", "version"),
    ]


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ({"channel": "c", "model": "app.item", "colour": 1}, "A trigger has no 'colour'.*newer"),
        ({"channel": "c"}, "A trigger needs a 'model'"),
        ({"model": "app.item"}, "A trigger needs a 'channel'"),
    ],
)
def test_an_invalid_specification_names_the_wrong_key(
    specification: dict[str, Any], message: str
) -> None:
    """T14: the error names the key, and what may be the matter."""
    with pytest.raises(TypeError, match=message):
        AddTrigger(specification)


def test_descriptions_have_one_line() -> None:
    """T8: sqlmigrate shows the description in a comment, which a line break would end."""
    operation = AddTrigger(dataclasses.replace(INSERTS, channel="one\nDROP TABLE two; --"))
    assert operation.describe() == "Add trigger of channel one DROP TABLE two; -- to app.item"
