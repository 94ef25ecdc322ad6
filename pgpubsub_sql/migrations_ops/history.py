"""What the migrations have recorded: a fold over their graph."""

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

from pgpubsub_sql.sql.trigger import Trigger

Key = tuple[str, str]
"""App label, name of the channel."""

Node = tuple[str, str]
"""App label, name of a migration."""

Triggers = dict[Key, Trigger]
"""What each app's migrations install."""

UNKNOWN = 0
"""The version of what no declared trigger equals, so that makemigrations replaces it."""


class Change(Operation):
    """An operation that brings a trigger from one specification to another."""

    before: Trigger | None = None
    """None if there was none."""
    after: Trigger | None = None
    """None if there is none any more."""


@dataclasses.dataclass
class History:
    """What is so once every migration has run."""

    triggers: Triggers = dataclasses.field(default_factory=dict)
    """What is installed, under the names that the models have then."""
    made: dict[Key, Node] = dataclasses.field(default_factory=dict)
    """Which migration was the last that had to do with a channel, be it to take it away."""
    renamed: dict[str, str] = dataclasses.field(default_factory=dict)
    """What the models are called next whose labels are no longer in use."""

    def names(self, model: str) -> Iterator[str]:
        """Yield the labels that *model* has had from this one on."""
        yield model
        while model in self.renamed:
            model = self.renamed[model]
            yield model

    def follow(self, trigger: Trigger) -> Trigger:
        """Return *trigger* on the model as it is called in the end."""
        *_, model = self.names(trigger.model)
        return dataclasses.replace(trigger, model=model)

    def keeps(self, app_label: str, trigger: Trigger) -> bool:
        """Whether no later migration changes or removes *trigger*."""
        return self.triggers.get((app_label, trigger.channel)) == self.follow(trigger)

    def add(self, app_label: str, operation: Operation) -> None:
        """Go on by one operation."""
        match operation:
            case Change():
                self._change(app_label, operation)
            case RenameModel():
                old = f"{app_label}.{operation.old_name_lower}"
                self._rename(old, f"{app_label}.{operation.new_name_lower}")
            case CreateModel():
                self.renamed.pop(f"{app_label}.{operation.name_lower}", None)

    def _change(self, app_label: str, change: Change) -> None:
        # A package may rename its model in a migration that does not wait for ours.
        before, after = (one and self.follow(one) for one in (change.before, change.after))
        current = after or before
        if current is None:
            return
        known = self.triggers.pop((app_label, (before or current).channel), None)
        if before != known:
            # Branches were merged: which came last is another matter on another database.
            after = dataclasses.replace(current, version=UNKNOWN)
        if after:
            self.triggers[app_label, after.channel] = after

    def _rename(self, old: str, new: str) -> None:
        self.renamed[old] = new
        self.renamed.pop(new, None)
        for key, trigger in self.triggers.items():
            if trigger.model == old:
                self.triggers[key] = dataclasses.replace(trigger, model=new)


def read(graph: MigrationGraph, only: Container[Node] | None = None) -> History:
    """Return the history that the migrations of *graph* tell, all or *only* those."""
    history = History()
    for node, operation in _operations(graph, only):
        history.add(node[0], operation)
        if isinstance(operation, Change):
            changed = [one.channel for one in (operation.before, operation.after) if one]
            history.made |= {(node[0], channel): node for channel in changed}
    return history


def _operations(
    graph: MigrationGraph, only: Container[Node] | None
) -> Iterator[tuple[Node, Operation]]:
    seen: set[Node] = set()
    for leaf in sorted(graph.leaf_nodes()):
        for node in graph.forwards_plan(leaf):
            migration = graph.nodes[node]
            if node not in seen and migration and (only is None or node in only):
                seen.add(node)
                yield from ((node, found) for found in flat(migration.operations))


def flat(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Yield *operations*; of what separates database and state, what concerns the state."""
    for operation in operations:
        if isinstance(operation, (RunSQL, SeparateDatabaseAndState)):
            yield from flat(operation.state_operations)
        else:
            yield operation
