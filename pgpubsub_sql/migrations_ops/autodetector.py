"""The one hook into Django: an autodetector that compares triggers too.

Composed with whatever class is there already, so that other packages' hooks keep working in
either order of INSTALLED_APPS.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Collection, Iterator
from typing import Any

from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.core.management.commands import makemigrations, migrate
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations import (
    AlterField,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation

from pgpubsub_sql.migrations_ops import history
from pgpubsub_sql.migrations_ops.history import Key, Triggers
from pgpubsub_sql.migrations_ops.operations import (
    AddTrigger,
    AlterTrigger,
    RemoveTrigger,
    TriggerOperation,
)
from pgpubsub_sql.migrations_ops.state import declared, owner
from pgpubsub_sql.sql.trigger import Trigger


class Order(enum.Enum):
    """What one of our operations waits for, beside what Django's dependencies can say."""

    TABLE = "the other operations on the model"
    """Field operations included: a trigger may name columns."""
    LATEST = "the migrations that the model's app has so far"
    """They have given the model the name by which it is known now."""
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
        old = history.read(self._graph).triggers if self._graph else {}
        renamed = {key: self._follow_renames(trigger) for key, trigger in old.items()}
        kept = {key for key in new.keys() & renamed.keys() if new[key].model == renamed[key].model}
        self._hold_models(old)
        for key in sorted(old.keys() - kept, reverse=True):
            self._remove(key[0], RemoveTrigger(old[key]))
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
        """Let what a trigger names go only after the apps that have such triggers.

        Their migrations look it up by the name it has now, today and on every fresh database.
        """
        for key, trigger in triggers.items():
            label, name = self._old_owner(trigger.model)
            for operation in self.generated_operations.get(label, []):
                if label != key[0] and _takes_away(operation, name, trigger):
                    operation._auto_deps = [*operation._auto_deps, _wait(*key, Order.RELEASE)]

    def _old_owner(self, model: str) -> tuple[str, str]:
        """Return app and name of the model whose operations made the table of *model*."""
        label, _, name = model.partition(".")
        if (label, name) in self.from_state.models or label in self.from_state.real_apps:
            return label, name
        with contextlib.suppress(LookupError):
            return owner(self.from_state.apps.get_model(model))
        return label, name

    def _remove(self, label: str, operation: RemoveTrigger) -> None:
        model = operation.trigger.model
        dependency = self._setting(model) or _wait(*self._old_owner(model), Order.LATEST)
        self.add_operation(label, operation, dependencies=[dependency], beginning=True)

    def _add(
        self, label: str, operation: TriggerOperation, released_by: Collection[Key] = ()
    ) -> None:
        dependencies = [
            _wait("pgpubsub_sql", "notification", OperationDependency.Type.CREATE),
            *self._after_table(operation.trigger.model),
            # A channel that moves to another app keeps the name of its function.
            *(
                _wait(*key, Order.RELEASE)
                for key in sorted(released_by)
                if key[1] == operation.trigger.channel
            ),
        ]
        self.add_operation(label, operation, dependencies=dependencies)

    def _after_table(self, model: str) -> Iterator[OperationDependency]:
        label, name = owner(apps.get_model(model))
        setting = self._setting(model)
        if setting:
            yield setting
        if not setting or label in self.generated_operations:
            yield _wait(label, name, Order.TABLE)

    def _setting(self, model: str) -> OperationDependency | None:
        """Return what waits for the model of a setting, if *model* is one."""
        name = apps.get_swappable_settings_name(model)
        return _wait("__setting__", name, OperationDependency.Type.CREATE) if name else None

    def check_dependency(self, operation: Operation, dependency: OperationDependency) -> bool:
        """Whether *operation* must come first."""
        label, name, _, kind = dependency
        match kind:
            case Order.TABLE:
                ours = isinstance(operation, TriggerOperation)
                return not ours and operation.references_model(name, label)
            case Order.LATEST:
                return False
            case Order.RELEASE:
                return isinstance(operation, RemoveTrigger) and operation.trigger.channel == name
        found: bool = super().check_dependency(operation, dependency)
        return found


def _wait(label: str, name: str, kind: Any) -> OperationDependency:
    return OperationDependency(label, name, None, kind)


def _takes_away(operation: Operation, name: str, trigger: Trigger) -> bool:
    """Whether *trigger*, on the model of that name, may not find something after *operation*."""
    match operation:
        case RenameModel():
            return operation.old_name_lower == name
        case DeleteModel():
            return operation.name_lower == name
        case RemoveField() | RenameField() | AlterField():
            # Of a ManyToManyField it may be the table.
            names_field = trigger.names_columns or not trigger.model.endswith(f".{name}")
            return names_field and operation.model_name_lower == name
    return False


def is_installed() -> bool:
    """Whether both commands still use our autodetector."""
    return all(issubclass(c.autodetector, TriggerAutodetectorMixin) for c in _commands())


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
    for command in (*(module.Command for module in modules), *_commands()):
        command.autodetector = composed


def _commands() -> list[Any]:
    """Return the classes that Django runs: a package such as django-tenants brings its own."""
    packages = get_commands()
    names = ("makemigrations", "migrate")
    return [type(load_command_class(packages[name], name)) for name in names]
