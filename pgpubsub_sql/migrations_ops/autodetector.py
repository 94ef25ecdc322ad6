"""Extension of Django's autodetector, so that makemigrations also compares triggers.

Django's class itself is extended. Autodetectors of other packages derive from it, and may be chosen
before this app is ready or while a command runs.
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

from pgpubsub_sql.migrations_ops.declared_triggers import declared_triggers, table_owner
from pgpubsub_sql.migrations_ops.operations import (
    AddTrigger,
    AlterTrigger,
    RemoveTrigger,
    TriggerOperation,
)
from pgpubsub_sql.migrations_ops.recorded_triggers import Key, Triggers, recorded_triggers
from pgpubsub_sql.sql.trigger import Trigger


class After(enum.Enum):
    """What one of our operations comes after, where Django's dependencies cannot express it."""

    TABLE = "the other operations on the model"
    """Including those on its fields: a trigger may name columns."""
    LATEST = "the existing migrations of the model's app"
    """They give the model its present name."""
    REMOVAL = "the removal of the trigger"
    """The dependency has the name of a channel in place of a model's."""


_Autodetector: Any = MigrationAutodetector
"""Django's class, which the type stubs describe only in part."""

_GRAPH = "_pgpubsub_graph"
"""The attribute that holds the migration graph during a run."""


class TriggerDetector:
    """Adds our operations to those that a run of Django's autodetector has found.

    Within an app, removals come first and additions last. So a trigger is removed from the model as
    it was and added to the model as it will be, and our operations never come between Django's.
    """

    def __init__(self, autodetector: Any, graph: MigrationGraph) -> None:
        self._found = autodetector
        self._graph = graph

    def add_operations(self) -> None:
        """Add the operations that lead from the recorded triggers to the declared ones."""
        new = declared_triggers()
        old = recorded_triggers(self._graph).triggers
        renamed = {key: self._follow_renames(trigger) for key, trigger in old.items()}
        kept = {key for key in new.keys() & renamed.keys() if new[key].model == renamed[key].model}
        self._hold_models(old)
        for key in sorted(old.keys() - kept, reverse=True):
            self._remove(key[0], RemoveTrigger(old[key]))
        for key in sorted(new):
            if key not in kept:
                self._add(key[0], AddTrigger(new[key]), removed=old.keys() - kept)
            elif new[key] != renamed[key]:
                self._add(key[0], AlterTrigger(renamed[key], new[key]))

    def _follow_renames(self, trigger: Trigger) -> Trigger:
        """Return *trigger* with the name that a RenameModel of this run gives its model."""
        for (label, new), old in self._found.renamed_models.items():
            if trigger.model == f"{label}.{old}".lower():
                return dataclasses.replace(trigger, model=f"{label}.{new}".lower())
        return trigger

    def _hold_models(self, triggers: Triggers) -> None:
        """Postpone operations of other apps that take a model or field away from a trigger.

        The migration that removes or alters the trigger looks it up by its present name, here and
        on every new database.
        """
        for key, trigger in triggers.items():
            label, name = self._old_owner(trigger.model)
            for operation in self._found.generated_operations.get(label, []):
                if label != key[0] and _takes_away(operation, name, trigger):
                    operation._auto_deps = [*operation._auto_deps, _dependency(*key, After.REMOVAL)]

    def _old_owner(self, model: str) -> tuple[str, str]:
        """Return app and name of the model whose operations created the table of *model*."""
        label, _, name = model.partition(".")
        state = self._found.from_state
        if (label, name) not in state.models and label not in state.real_apps:
            with contextlib.suppress(LookupError):
                return table_owner(state.apps.get_model(model))
        return label, name

    def _remove(self, label: str, operation: RemoveTrigger) -> None:
        model = operation.trigger.model
        dependency = self._swappable_dependency(model) or _dependency(
            *self._old_owner(model), After.LATEST
        )
        # Nothing can depend on an app that is gone or has another label now.
        is_there = dependency.app_label in {*apps.app_configs, "__setting__"}
        dependencies = [dependency] if is_there else []
        self._found.add_operation(label, operation, dependencies=dependencies, beginning=True)

    def _add(self, label: str, operation: TriggerOperation, removed: Collection[Key] = ()) -> None:
        dependencies = [
            _dependency("pgpubsub_sql", "notification", OperationDependency.Type.CREATE),
            *self._table_dependencies(operation.trigger.model),
            # A channel that moves to another app keeps its name and that of its function.
            *(
                _dependency(*key, After.REMOVAL)
                for key in sorted(removed)
                if key[1] == operation.trigger.channel
            ),
        ]
        self._found.add_operation(label, operation, dependencies=dependencies)

    def _table_dependencies(self, model: str) -> Iterator[OperationDependency]:
        label, name = table_owner(apps.get_model(model))
        setting = self._swappable_dependency(model)
        if setting:
            yield setting
        if not setting or label in self._found.generated_operations:
            yield _dependency(label, name, After.TABLE)

    def _swappable_dependency(self, model: str) -> OperationDependency | None:
        """Return the dependency on a swappable model, if *model* is one."""
        name = apps.get_swappable_settings_name(model)
        return _dependency("__setting__", name, OperationDependency.Type.CREATE) if name else None


def _is_required(operation: Operation, dependency: OperationDependency) -> bool:
    """Whether *operation* must come first to satisfy a dependency of ours."""
    label, name, _, kind = dependency
    match kind:
        case After.TABLE:
            ours = isinstance(operation, TriggerOperation)
            return not ours and operation.references_model(name, label)
        case After.REMOVAL:
            return isinstance(operation, RemoveTrigger) and operation.trigger.channel == name
    return False


def _dependency(label: str, name: str, kind: Any) -> OperationDependency:
    return OperationDependency(label, name, None, kind)


def _takes_away(operation: Operation, name: str, trigger: Trigger) -> bool:
    """Whether *operation* may take away what *trigger* names; *name* is the model's."""
    match operation:
        case RenameModel():
            return operation.old_name_lower == name
        case DeleteModel():
            return operation.name_lower == name
        case RemoveField() | RenameField() | AlterField():
            # The table may be that of a ManyToManyField.
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


# Each function extends the method of Django's autodetector that has its name.


def _detect_changes(detect: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, convert_apps: Any = None, graph: MigrationGraph | None = None) -> Any:
        setattr(self, _GRAPH, graph)
        # Django takes an app without models for a new one, whose next migration is its initial one.
        self.existing_apps |= {label for label, _ in graph.nodes} if graph else set()
        return detect(self, convert_apps, graph)

    return method


def _sort_migrations(sort: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any) -> None:
        sort(self)
        # Without a graph, two states are compared: only models matter.
        if (graph := getattr(self, _GRAPH)) is not None:
            TriggerDetector(self, graph).add_operations()

    return method


def check_dependency(check: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, operation: Operation, dependency: Any) -> bool:
        if isinstance(getattr(dependency, "type", None), After):
            return _is_required(operation, dependency)
        found: bool = check(self, operation, dependency)
        return found

    return method
