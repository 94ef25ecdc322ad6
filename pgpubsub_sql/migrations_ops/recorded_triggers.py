"""The triggers that migrations record: trigger state, folded from the operations of their graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator

from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations import (
    CreateModel,
    RenameModel,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation

from pgpubsub_sql.django_internals import Node, in_order
from pgpubsub_sql.sql.trigger import Trigger

Key = tuple[str, str]
"""App label and name of the channel."""

Triggers = dict[Key, Trigger]
"""Triggers by app and channel."""

UNKNOWN = 0
"""A version that no declared trigger has, so that makemigrations replaces the one recorded."""


class TriggerChange(Operation):
    """An operation that changes a trigger from one specification to another."""

    before: Trigger | None = None
    """None if the trigger is added."""
    after: Trigger | None = None
    """None if it is removed."""


@dataclasses.dataclass
class RecordedTriggers:
    """Trigger state after all migrations."""

    triggers: Triggers = dataclasses.field(default_factory=dict)
    """Installed triggers, with the names that their models have by then."""
    last_migrations: dict[Key, Node] = dataclasses.field(default_factory=dict)
    """For each channel, the last migration that added, altered or removed its trigger."""
    renamed: dict[str, str] = dataclasses.field(default_factory=dict)
    """For each model label that is no longer in use, the next one."""

    def names(self, model: str) -> Iterator[str]:
        """Yield this label of *model* and all later ones."""
        yield model
        while model in self.renamed:
            model = self.renamed[model]
            yield model

    def follow(self, trigger: Trigger) -> Trigger:
        """Return *trigger* with the latest label of its model."""
        *_, model = self.names(trigger.model)
        return dataclasses.replace(trigger, model=model)

    def keeps(self, app_label: str, trigger: Trigger) -> bool:
        """Whether no later migration changes or removes *trigger*."""
        return self.triggers.get((app_label, trigger.channel)) == self.follow(trigger)

    def add(self, app_label: str, operation: Operation) -> None:
        """Apply one operation of an app."""
        match operation:
            case TriggerChange():
                self._change(app_label, operation)
            case RenameModel():
                old = f"{app_label}.{operation.old_name_lower}"
                self._rename(old, f"{app_label}.{operation.new_name_lower}")
            case CreateModel():
                self.renamed.pop(f"{app_label}.{operation.name_lower}", None)

    def _change(self, app_label: str, change: TriggerChange) -> None:
        # Another package may rename its model in a migration that does not depend on ours.
        before, after = (one and self.follow(one) for one in (change.before, change.after))
        current = after or before
        if current is None:
            return
        known = self.triggers.pop((app_label, (before or current).channel), None)
        if before != known:
            # Branches were merged, and databases may have run them in different orders.
            after = dataclasses.replace(current, version=UNKNOWN)
        if after:
            self.triggers[app_label, after.channel] = after

    def _rename(self, old: str, new: str) -> None:
        self.renamed[old] = new
        self.renamed.pop(new, None)
        for key, trigger in self.triggers.items():
            if trigger.model == old:
                self.triggers[key] = dataclasses.replace(trigger, model=new)


def recorded_triggers(
    graph: MigrationGraph, only: Container[Node] | None = None
) -> RecordedTriggers:
    """Return the triggers that the migrations of *graph* record, or *only* some of them."""
    recorded = RecordedTriggers()
    for node, operation in _operations(graph, only):
        recorded.add(node[0], operation)
        if isinstance(operation, TriggerChange):
            changed = [one.channel for one in (operation.before, operation.after) if one]
            recorded.last_migrations |= {(node[0], channel): node for channel in changed}
    return recorded


def _operations(
    graph: MigrationGraph, only: Container[Node] | None
) -> Iterator[tuple[Node, Operation]]:
    for node, migration in in_order(graph):
        if only is None or node in only:
            yield from ((node, found) for found in state_operations(migration.operations))


def state_operations(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Yield *operations*; where one separates state and database, its state operations."""
    for operation in operations:
        if isinstance(operation, (RunSQL, SeparateDatabaseAndState)):
            yield from state_operations(operation.state_operations)
        else:
            yield operation
