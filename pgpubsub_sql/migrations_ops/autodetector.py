"""The one hook into Django: an autodetector that compares triggers too.

Composed with whatever class is there already, so that other packages' hooks keep working in
either order of INSTALLED_APPS.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection
from typing import Any

from django.core.management.commands import makemigrations, migrate
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations import DeleteModel, RenameModel
from django.db.migrations.operations.base import Operation

from pgpubsub_sql.migrations_ops.operations import (
    AddTrigger,
    AlterTrigger,
    RemoveTrigger,
    TriggerOperation,
)
from pgpubsub_sql.migrations_ops.state import Key, Triggers, declared, owner, recorded
from pgpubsub_sql.sql.trigger import Trigger


class Order(enum.Enum):
    """What one of our operations waits for, beside what Django's dependencies can say."""

    TABLE = "the other operations on the model"
    """Field operations included: a trigger may name columns."""
    RELEASE = "the removal of the trigger"
    """Of the channel whose name stands where the model's would."""


_Autodetector: Any = MigrationAutodetector
"""Django's class, of which the type stubs know only a part."""


class TriggerAutodetectorMixin(_Autodetector):  # type: ignore[misc]
    """Adds our operations to the ones that Django has found.

    Within an app what is removed goes first and what is added last, so that a trigger meets
    its model as it was, or as it will be, and our operations never come between Django's.
    """

    _graph: MigrationGraph | None = None

    def _detect_changes(
        self, convert_apps: Any = None, graph: MigrationGraph | None = None
    ) -> dict[str, list[Any]]:
        self._graph = graph
        # Django knows an app by its models, and would take every migration of an app that has
        # none for its initial one.
        self.existing_apps |= {label for label, _ in graph.nodes} if graph else set()
        changes: dict[str, list[Any]] = super()._detect_changes(convert_apps, graph)
        return changes

    def _sort_migrations(self) -> None:
        super()._sort_migrations()
        self._generate_trigger_operations()

    def _generate_trigger_operations(self) -> None:
        new = declared()
        old = recorded(self._graph) if self._graph else {}
        renamed = {key: self._follow_renames(trigger) for key, trigger in old.items()}
        kept = {key for key in new.keys() & renamed.keys() if new[key].model == renamed[key].model}
        self._hold_models(old)
        for key in sorted(old.keys() - kept, reverse=True):
            self.add_operation(key[0], RemoveTrigger(old[key]), beginning=True)
        for key in sorted(new):
            if key not in kept:
                self._add(key[0], AddTrigger(new[key]), released_by=old.keys() - kept)
            elif new[key] != renamed[key]:
                self._add(key[0], AlterTrigger(renamed[key], new[key]))

    def _follow_renames(self, trigger: Trigger) -> Trigger:
        """Return *trigger* as the RenameModel found in this run leaves it."""
        for (label, new), old in self.renamed_models.items():
            if trigger.model == f"{label}.{old}".lower():
                return dataclasses.replace(trigger, model=f"{label}.{new}".lower())
        return trigger

    def _hold_models(self, triggers: Triggers) -> None:
        """Let a model go or change its name only after the apps that have triggers on it.

        Their migrations look it up by the name it has now, today and on every fresh database.
        """
        for label, found in self.generated_operations.items():
            for operation in found:
                holders = [
                    _wait(*key, Order.RELEASE)
                    for key, trigger in triggers.items()
                    if key[0] != label and _takes_away(operation, label, trigger.model)
                ]
                operation._auto_deps = [*operation._auto_deps, *holders]

    def _add(
        self, label: str, operation: TriggerOperation, released_by: Collection[Key] = ()
    ) -> None:
        dependencies = [
            _wait("pgpubsub_sql", "notification", OperationDependency.Type.CREATE),
            _wait(*owner(operation.trigger.model), Order.TABLE),
            # A channel that moves to another app keeps the name of its function.
            *(
                _wait(*key, Order.RELEASE)
                for key in sorted(released_by)
                if key[1] == operation.trigger.channel
            ),
        ]
        self.add_operation(label, operation, dependencies=dependencies)

    def check_dependency(self, operation: Operation, dependency: OperationDependency) -> bool:
        """Whether *operation* must come first."""
        label, name, _, kind = dependency
        match kind:
            case Order.TABLE:
                ours = isinstance(operation, TriggerOperation)
                return not ours and operation.references_model(name, label)
            case Order.RELEASE:
                return isinstance(operation, RemoveTrigger) and operation.trigger.channel == name
        found: bool = super().check_dependency(operation, dependency)
        return found


def _wait(label: str, name: str, kind: Any) -> OperationDependency:
    return OperationDependency(label, name, None, kind)


def _takes_away(operation: Operation, label: str, model: str) -> bool:
    """Whether *model* is not found under its name any more once *operation* has run."""
    match operation:
        case RenameModel():
            return model == f"{label}.{operation.old_name_lower}"
        case DeleteModel():
            return model == f"{label}.{operation.name_lower}"
    return False


def is_installed() -> bool:
    """Whether both commands still use our autodetector."""
    commands = (makemigrations.Command, migrate.Command)
    return all(issubclass(c.autodetector, TriggerAutodetectorMixin) for c in commands)


def install() -> None:
    """Compose our autodetector with the one in place; calling it again changes nothing.

    Set on both commands, which a check of Django's wants to be the same, and on both modules'
    ``MigrationAutodetector``, which packages such as django-pgtrigger compose with in turn.
    """
    if is_installed():
        return
    current = makemigrations.Command.autodetector
    composed = type("MigrationAutodetector", (TriggerAutodetectorMixin, current), {})
    modules: tuple[Any, ...] = (makemigrations, migrate)
    for module in modules:
        module.MigrationAutodetector = composed
        module.Command.autodetector = composed
