"""The one hook into Django: an autodetector that compares triggers too.

Composed with whatever class is there already, so that other packages' hooks keep working in
either order of INSTALLED_APPS.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from django.core.management.commands import makemigrations, migrate
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.graph import MigrationGraph

from pgpubsub_sql.migrations_ops.operations import (
    AddTrigger,
    AlterTrigger,
    RemoveTrigger,
    TriggerOperation,
)
from pgpubsub_sql.migrations_ops.state import declared, recorded
from pgpubsub_sql.sql.trigger import Trigger


class TriggerAutodetectorMixin(MigrationAutodetector):
    """Adds our operations to the ones that Django has found."""

    _graph: MigrationGraph | None = None

    def _detect_changes(
        self, convert_apps: Any = None, graph: MigrationGraph | None = None
    ) -> dict[str, list[Any]]:
        self._graph = graph
        self._convert_apps = frozenset(convert_apps or ())
        changes: dict[str, list[Any]] = super()._detect_changes(convert_apps, graph)
        return changes

    def _sort_migrations(self) -> None:
        # All of Django's operations are known by now, and none is sorted into a migration yet.
        self._generate_trigger_operations()
        super()._sort_migrations()

    def _generate_trigger_operations(self) -> None:
        new = {key: trigger for key, trigger in declared().items() if self._is_migrated(key[0])}
        old = recorded(self._graph) if self._graph else {}
        old = {key: self._follow_renames(trigger) for key, trigger in old.items()}
        for key in sorted(old.keys() - new.keys()):
            self._add(key[0], RemoveTrigger(old[key]), beginning=True)
        for key in sorted(new.keys() - old.keys()):
            self._add(key[0], AddTrigger(new[key]))
        for key in sorted(old.keys() & new.keys()):
            if old[key] != new[key]:
                self._add(key[0], AlterTrigger(old[key], new[key]))

    def _is_migrated(self, label: str) -> bool:
        return label not in self.from_state.real_apps or label in self._convert_apps

    def _follow_renames(self, trigger: Trigger) -> Trigger:
        """Return *trigger* as the RenameModel found in this run leaves it."""
        for (label, new), old in self.renamed_models.items():
            if trigger.model == f"{label}.{old}".lower():
                return dataclasses.replace(trigger, model=f"{label}.{new}".lower())
        return trigger

    def _add(self, label: str, operation: TriggerOperation, *, beginning: bool = False) -> None:
        self.add_operation(
            label, operation, dependencies=_dependencies(operation.trigger), beginning=beginning
        )


def _dependencies(trigger: Trigger) -> list[OperationDependency]:
    """Return what must exist before *trigger*: its table, and ours."""
    create = OperationDependency.Type.CREATE
    label, _, model = trigger.model.partition(".")
    return [
        OperationDependency("pgpubsub_sql", "notification", None, create),
        OperationDependency(label, model, None, create),
    ]


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
    for module in (makemigrations, migrate):
        module.MigrationAutodetector = composed  # type: ignore[misc,assignment]
        module.Command.autodetector = composed
