"""The one hook into Django: its autodetector compares triggers, too.

It is Django's class itself that is extended. Every other autodetector derives from it, whichever
package brings it, and whether it is chosen before ours is installed or while a command runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

from django.apps import apps
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

_GRAPH = "_pgpubsub_graph"
"""The attribute that holds the graph of migrations during a run."""


class TriggerDetector:
    """Adds our operations to the ones that a run of Django's autodetector has found.

    Within an app what is removed goes first and what is added last, so that a trigger meets
    its model as it was, or as it will be, and our operations never come between Django's.
    """

    def __init__(self, autodetector: Any, graph: MigrationGraph) -> None:
        self._found = autodetector
        self._graph = graph

    def add_operations(self) -> None:
        """Add what leads from the triggers of the migrations to those of the code."""
        new = declared()
        old = history.read(self._graph).triggers
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
        for (label, new), old in self._found.renamed_models.items():
            if trigger.model == f"{label}.{old}".lower():
                return dataclasses.replace(trigger, model=f"{label}.{new}".lower())
        return trigger

    def _hold_models(self, triggers: Triggers) -> None:
        """Let what a trigger names go only after the apps that have such triggers.

        Their migrations look it up by the name it has now, today and on every fresh database.
        """
        for key, trigger in triggers.items():
            label, name = self._old_owner(trigger.model)
            for operation in self._found.generated_operations.get(label, []):
                if label != key[0] and _takes_away(operation, name, trigger):
                    operation._auto_deps = [*operation._auto_deps, _wait(*key, Order.RELEASE)]

    def _old_owner(self, model: str) -> tuple[str, str]:
        """Return app and name of the model whose operations made the table of *model*."""
        label, _, name = model.partition(".")
        if (
            label,
            name,
        ) in self._found.from_state.models or label in self._found.from_state.real_apps:
            return label, name
        with contextlib.suppress(LookupError):
            return owner(self._found.from_state.apps.get_model(model))
        return label, name

    def _remove(self, label: str, operation: RemoveTrigger) -> None:
        model = operation.trigger.model
        dependency = self._setting(model) or _wait(*self._old_owner(model), Order.LATEST)
        # Nothing can wait for an app that has gone, or has another label now.
        is_there = dependency.app_label in {*apps.app_configs, "__setting__"}
        dependencies = [dependency] if is_there else []
        self._found.add_operation(label, operation, dependencies=dependencies, beginning=True)

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
        self._found.add_operation(label, operation, dependencies=dependencies)

    def _after_table(self, model: str) -> Iterator[OperationDependency]:
        label, name = owner(apps.get_model(model))
        setting = self._setting(model)
        if setting:
            yield setting
        if not setting or label in self._found.generated_operations:
            yield _wait(label, name, Order.TABLE)

    def _setting(self, model: str) -> OperationDependency | None:
        """Return what waits for the model of a setting, if *model* is one."""
        name = apps.get_swappable_settings_name(model)
        return _wait("__setting__", name, OperationDependency.Type.CREATE) if name else None


def _is_waited_for(operation: Operation, dependency: OperationDependency) -> bool:
    """Whether *operation* must come first, by a dependency of ours."""
    label, name, _, kind = dependency
    match kind:
        case Order.TABLE:
            ours = isinstance(operation, TriggerOperation)
            return not ours and operation.references_model(name, label)
        case Order.RELEASE:
            return isinstance(operation, RemoveTrigger) and operation.trigger.channel == name
    return False


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


def install() -> None:
    """Extend Django's autodetector; calling it again changes nothing."""
    if hasattr(_Autodetector, _GRAPH):
        return
    setattr(_Autodetector, _GRAPH, None)
    for extend in (_detect_changes, _sort_migrations, check_dependency):
        method = getattr(_Autodetector, extend.__name__)
        setattr(_Autodetector, extend.__name__, functools.wraps(method)(extend(method)))


# Each returns a method of Django's as it is extended, under the same name.


def _detect_changes(detect: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, convert_apps: Any = None, graph: MigrationGraph | None = None) -> Any:
        setattr(self, _GRAPH, graph)
        # Django knows an app by its models, and would take every migration of an app that has
        # none for its initial one.
        self.existing_apps |= {label for label, _ in graph.nodes} if graph else set()
        return detect(self, convert_apps, graph)

    return method


def _sort_migrations(sort: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any) -> None:
        sort(self)
        # Whoever compares two states that have no migrations wants to hear of the models alone.
        if (graph := getattr(self, _GRAPH)) is not None:
            TriggerDetector(self, graph).add_operations()

    return method


def check_dependency(check: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, operation: Operation, dependency: Any) -> bool:
        if isinstance(getattr(dependency, "type", None), Order):
            return _is_waited_for(operation, dependency)
        found: bool = check(self, operation, dependency)
        return found

    return method
