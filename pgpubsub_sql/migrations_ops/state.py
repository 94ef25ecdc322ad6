"""Which triggers the code declares, and which the migrations have recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator

from django.apps import apps
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations import RenameModel, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

from pgpubsub_sql.channels import TriggerChannel, app_label, model_of
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.operations import (
    AddTrigger,
    AlterTrigger,
    RemoveTrigger,
    TriggerOperation,
)
from pgpubsub_sql.sql.trigger import EVENTS, Trigger

Key = tuple[str, str]
"""App label, name of the channel."""

Node = tuple[str, str]
"""App label, name of the migration."""

Triggers = dict[Key, Trigger]
"""What each app's migrations install."""


def declared() -> Triggers:
    """Return what the listeners of this project want installed, by the app of the channel."""
    return {
        (app_label(channel), channel.postgres_name()): trigger
        for channel in registry.channels()
        if issubclass(channel, TriggerChannel) and (trigger := specify(channel)).triggers()
    }


def specify(channel: type[TriggerChannel]) -> Trigger:
    """Return the specification of *channel* with the union of its listeners' events."""
    model = model_of(channel)
    wanted = {event for listener in registry.listeners_of(channel) for event in listener.events}
    return Trigger(
        channel=channel.postgres_name(),
        model=(model._meta.concrete_model or model)._meta.label_lower,  # not a proxy's
        after=tuple(event for event in EVENTS if f"after_{event}" in wanted),
        before=tuple(event for event in EVENTS if f"before_{event}" in wanted),
        level=channel.level,
        durable=channel.lock_notifications,
    )


def owner(label: str) -> tuple[str, str]:
    """Return app and name of the model whose operations make the table of the declared *label*.

    The table of a ManyToManyField comes and goes with the model that has the field.
    """
    model = apps.get_model(label)
    owner = (model._meta.auto_created or model)._meta
    return owner.app_label, owner.model_name or ""


def recorded(graph: MigrationGraph, only: Container[Node] | None = None) -> Triggers:
    """Return what is installed once migrations of *graph* have run, all or *only* those: a fold."""
    triggers: Triggers = {}
    for label, operation in _operations(graph, only):
        if isinstance(operation, TriggerOperation):
            _apply(triggers, label, operation)
        elif isinstance(operation, RenameModel):
            _rename(triggers, label, operation)
    return triggers


def _apply(triggers: Triggers, label: str, operation: TriggerOperation) -> None:
    key = label, operation.trigger.channel
    match operation:
        case AddTrigger() | AlterTrigger():
            triggers[key] = operation.trigger
        case RemoveTrigger():
            triggers.pop(key, None)


def _rename(triggers: Triggers, label: str, operation: RenameModel) -> None:
    old, new = f"{label}.{operation.old_name_lower}", f"{label}.{operation.new_name_lower}"
    for key, trigger in triggers.items():
        if trigger.model == old:
            triggers[key] = dataclasses.replace(trigger, model=new)


def _operations(
    graph: MigrationGraph, only: Container[Node] | None
) -> Iterator[tuple[str, Operation]]:
    seen: set[Node] = set()
    for leaf in sorted(graph.leaf_nodes()):
        for node in graph.forwards_plan(leaf):
            migration = graph.nodes[node]
            if node not in seen and migration and (only is None or node in only):
                seen.add(node)
                yield from ((node[0], found) for found in _flat(migration.operations))


def _flat(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Yield *operations*; of what separates database and state, what concerns the state."""
    for operation in operations:
        if isinstance(operation, (RunSQL, SeparateDatabaseAndState)):
            yield from _flat(operation.state_operations)
        else:
            yield operation
