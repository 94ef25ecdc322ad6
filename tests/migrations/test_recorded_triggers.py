"""The triggers that a graph of migrations records."""

from __future__ import annotations

import dataclasses

import pytest
from django.db import migrations
from django.db.migrations import Migration
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations.base import Operation

from pgpubsub_sql.migrations_ops.operations import AddTrigger, AlterTrigger, RemoveTrigger
from pgpubsub_sql.migrations_ops.recorded_triggers import recorded_triggers
from pgpubsub_sql.sql.trigger import Trigger
from tests.migrations.specifications import CREATE, DELETES, INSERTS, OTHER, RENAME, SAVES, renamed


def unknown(trigger: Trigger) -> Trigger:
    """Return what equals nothing that is declared, so that makemigrations makes it good."""
    return dataclasses.replace(trigger, version=0)


SEPARATE = migrations.SeparateDatabaseAndState
RECORDED: list[tuple[str, list[Operation], list[Trigger]]] = [
    ("added", [AddTrigger(INSERTS)], [INSERTS]),
    ("altered", [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES)], [SAVES]),
    ("removed", [AddTrigger(INSERTS), RemoveTrigger(INSERTS)], []),
    ("renamed", [AddTrigger(INSERTS), RENAME], [renamed(INSERTS)]),
    ("in the state", [SEPARATE(state_operations=[AddTrigger(INSERTS)])], [INSERTS]),
    ("in the database alone", [SEPARATE(database_operations=[AddTrigger(INSERTS)])], []),
    ("beside SQL", [migrations.RunSQL("", state_operations=[AddTrigger(INSERTS)])], [INSERTS]),
    (
        "renamed, and its name taken by another",
        [AddTrigger(INSERTS), RENAME, CREATE, AddTrigger(OTHER)],
        [renamed(INSERTS), OTHER],
    ),
    (
        "renamed before, by a package that knows nothing of it",
        [CREATE, RENAME, migrations.RenameModel("Thing", "Part"), AddTrigger(INSERTS)],
        [renamed(INSERTS, "app.part")],
    ),
    (
        "altered in two branches",
        [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), AlterTrigger(INSERTS, DELETES)],
        [unknown(DELETES)],
    ),
    (
        "altered in two branches, and then made good",
        [
            *(AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), AlterTrigger(INSERTS, DELETES)),
            AlterTrigger(unknown(DELETES), DELETES),
        ],
        [DELETES],
    ),
    ("added in two branches", [AddTrigger(INSERTS), AddTrigger(SAVES)], [unknown(SAVES)]),
    (
        "altered in one branch, removed in another",
        [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), RemoveTrigger(INSERTS)],
        [unknown(INSERTS)],
    ),
    (
        "removed in one branch, altered in another",
        [AddTrigger(INSERTS), RemoveTrigger(INSERTS), AlterTrigger(INSERTS, SAVES)],
        [unknown(SAVES)],
    ),
    (
        "renamed in the state",
        [AddTrigger(INSERTS), SEPARATE(state_operations=[SEPARATE(state_operations=[RENAME])])],
        [renamed(INSERTS)],
    ),
]


@pytest.mark.parametrize(
    ("operations", "triggers"), [case[1:] for case in RECORDED], ids=[case[0] for case in RECORDED]
)
def test_recorded_triggers_are_folded_from_the_graph(
    operations: list[Operation], triggers: list[Trigger]
) -> None:
    """T1: the fold over the migrations knows what is installed, and under which name."""
    graph = MigrationGraph()
    migration = Migration("0001_initial", "app")
    migration.operations = operations
    graph.add_node(("app", "0001_initial"), migration)
    recorded = recorded_triggers(graph).triggers
    assert list(recorded.values()) == triggers
    assert set(recorded) == {("app", trigger.channel) for trigger in triggers}
