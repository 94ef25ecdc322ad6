"""Reduction of operations, when migrations are squashed or optimized."""

from __future__ import annotations

import dataclasses

import pytest
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.optimizer import MigrationOptimizer

from pgpubsub_sql.migrations_ops.operations import AddTrigger, AlterTrigger, RemoveTrigger
from tests.migrations.specifications import (
    CREATE,
    CREATE_THING,
    DELETES,
    INSERTS,
    OTHER,
    RENAME,
    SAVES,
    renamed,
    said,
)

AGE = ("age", models.IntegerField())
ADD_AGE = migrations.AddField("Item", *AGE)
CREATE_WITH_AGE = migrations.CreateModel("Item", [*CREATE.fields, AGE])
DELETE = migrations.DeleteModel("Item")
ELSEWHERE = migrations.CreateModel("Place", [("id", models.BigAutoField(primary_key=True))])
DATA = migrations.RunSQL("UPDATE app_item SET id = id")
NARROW = dataclasses.replace(INSERTS, columns=("id", "age"))

REDUCED: list[tuple[str, list[Operation], list[Operation]]] = [
    ("add, alter", [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES)], [AddTrigger(SAVES)]),
    ("add, remove", [AddTrigger(INSERTS), RemoveTrigger(INSERTS)], []),
    (
        "alter, alter",
        [AlterTrigger(INSERTS, SAVES), AlterTrigger(SAVES, DELETES)],
        [AlterTrigger(INSERTS, DELETES)],
    ),
    ("there and back", [AlterTrigger(INSERTS, SAVES), AlterTrigger(SAVES, INSERTS)], []),
    ("alter, remove", [AlterTrigger(INSERTS, SAVES), RemoveTrigger(SAVES)], [RemoveTrigger(INSERTS)]),
    ("remove, add again", [RemoveTrigger(INSERTS), AddTrigger(INSERTS)], []),
    ("remove, add another", [RemoveTrigger(INSERTS), AddTrigger(SAVES)], [AlterTrigger(INSERTS, SAVES)]),
    (
        "two channels, interleaved",
        [AddTrigger(INSERTS), AddTrigger(OTHER), AlterTrigger(INSERTS, SAVES), RemoveTrigger(OTHER)],
        [AddTrigger(SAVES)],
    ),
    ("across a field", [CREATE, AddTrigger(INSERTS), ADD_AGE], [CREATE_WITH_AGE, AddTrigger(INSERTS)]),
    (
        "a field, across a trigger",
        [ADD_AGE, AddTrigger(INSERTS), migrations.RemoveField("Item", "age")],
        [AddTrigger(INSERTS)],
    ),
    (
        "a whole life",
        [CREATE, AddTrigger(INSERTS), ADD_AGE, AlterTrigger(INSERTS, SAVES), RemoveTrigger(SAVES), DELETE],
        [],
    ),
    (
        "across a rename",
        [CREATE, AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), RENAME],
        [CREATE_THING, AddTrigger(renamed(SAVES))],
    ),
    (
        "altered, then renamed",
        [AlterTrigger(INSERTS, SAVES), RENAME, AlterTrigger(renamed(SAVES), renamed(DELETES))],
        [RENAME, AlterTrigger(renamed(INSERTS), renamed(DELETES))],
    ),
    (
        "across another model",
        [AddTrigger(INSERTS), ELSEWHERE, AlterTrigger(INSERTS, SAVES)],
        [ELSEWHERE, AddTrigger(SAVES)],
    ),
]  # fmt: skip

KEPT: list[tuple[str, list[Operation]]] = [
    ("data between", [AddTrigger(INSERTS), DATA, AlterTrigger(INSERTS, SAVES)]),
    ("data between, removed", [AddTrigger(INSERTS), DATA, RemoveTrigger(INSERTS)]),
    ("a trigger and its model", [CREATE, AddTrigger(INSERTS)]),
    ("a trigger, and its model deleted", [RemoveTrigger(INSERTS), DELETE]),
    ("columns that are named", [AddTrigger(NARROW), ADD_AGE]),
    ("a column that is named goes", [ADD_AGE, AddTrigger(NARROW), migrations.RemoveField("Item", "age")]),
    ("a specification that does not follow", [AddTrigger(INSERTS), AlterTrigger(SAVES, DELETES)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operations", "reduced"),
    [case[1:] for case in REDUCED],
    ids=[case[0] for case in REDUCED],
)
def test_operations_are_reduced(operations: list[Operation], reduced: list[Operation]) -> None:
    """T9: squashing leaves what counts; neither we nor Django's operations are in the way."""
    found = MigrationOptimizer().optimize(operations, "app")
    assert [name for name, _, _ in said(*found)] == [name for name, _, _ in said(*reduced)]
    assert said(*(one for one in found if is_ours(one))) == said(
        *(one for one in reduced if is_ours(one))
    )


def is_ours(operation: Operation) -> bool:
    return isinstance(operation, (AddTrigger, AlterTrigger, RemoveTrigger))


@pytest.mark.parametrize("operations", [case[1] for case in KEPT], ids=[case[0] for case in KEPT])
def test_operations_that_differ_in_effect_are_not_reduced(operations: list[Operation]) -> None:
    """T9: what would no longer do the same stays as it is."""
    assert said(*MigrationOptimizer().optimize(operations, "app")) == said(*operations)
