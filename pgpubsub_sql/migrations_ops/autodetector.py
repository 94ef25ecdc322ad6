"""Extension of Django's autodetector, so that makemigrations also compares triggers.

Django's class itself is extended. Autodetectors of other packages derive from it, and may be chosen
before this app is ready or while a command runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Collection, Iterator

from django.apps import apps
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations import (
    AlterField,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation

from pgpubsub_sql.django_internals import (
    Detection,
    OperationDependency,
    creation,
    dependency,
    extend_autodetector,
    is_swappable,
    swappable_dependency,
    wait,
)
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


def install() -> None:
    """Extend Django's autodetector; calling it again changes nothing."""
    extend_autodetector(_add_operations, _is_required)


def _add_operations(detection: Detection, graph: MigrationGraph) -> None:
    TriggerDetector(detection, graph).add_operations()


class TriggerDetector:
    """Adds our operations to those that a run of Django's autodetector has found.

    Within an app, removals come first and additions last. So a trigger is removed from the model as
    it was and added to the model as it will be, and our operations never come between Django's.
    """

    def __init__(self, detection: Detection, graph: MigrationGraph) -> None:
        self._detection = detection
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
        for old, new in self._detection.renamed_models():
            if trigger.model == old:
                return dataclasses.replace(trigger, model=new)
        return trigger

    def _hold_models(self, triggers: Triggers) -> None:
        """Postpone operations of other apps that take a model or field away from a trigger.

        The migration that removes or alters the trigger looks it up by its present name, here and
        on every new database.
        """
        for key, trigger in triggers.items():
            label, name = self._old_owner(trigger.model)
            for operation in self._detection.operations_of(label):
                if label != key[0] and _takes_away(operation, name, trigger):
                    wait(operation, dependency(*key, After.REMOVAL))

    def _old_owner(self, model: str) -> tuple[str, str]:
        """Return app and name of the model whose operations created the table of *model*."""
        label, _, name = model.partition(".")
        if not self._detection.had_model(label, name):
            with contextlib.suppress(LookupError):
                return table_owner(self._detection.old_model(model))
        return label, name

    def _remove(self, label: str, operation: RemoveTrigger) -> None:
        model = operation.trigger.model
        needed = swappable_dependency(model) or dependency(*self._old_owner(model), After.LATEST)
        # Nothing can depend on an app that is gone or has another label now.
        is_there = is_swappable(needed) or needed.app_label in apps.app_configs
        self._detection.add(label, operation, [needed] if is_there else [], first=True)

    def _add(self, label: str, operation: TriggerOperation, removed: Collection[Key] = ()) -> None:
        dependencies = [
            creation("pgpubsub_sql", "notification"),
            *self._table_dependencies(operation.trigger.model),
            # A channel that moves to another app keeps its name and that of its function.
            *(
                dependency(*key, After.REMOVAL)
                for key in sorted(removed)
                if key[1] == operation.trigger.channel
            ),
        ]
        self._detection.add(label, operation, dependencies)

    def _table_dependencies(self, model: str) -> Iterator[OperationDependency]:
        label, name = table_owner(apps.get_model(model))
        setting = swappable_dependency(model)
        if setting:
            yield setting
        if not setting or self._detection.operations_of(label):
            yield dependency(label, name, After.TABLE)


def _is_required(operation: Operation, needed: OperationDependency) -> bool | None:
    """Whether *operation* must come first to satisfy a dependency of ours; None for Django's."""
    label, name, _, kind = needed
    match kind:
        case After.TABLE:
            ours = isinstance(operation, TriggerOperation)
            return not ours and operation.references_model(name, label)
        case After.REMOVAL:
            return isinstance(operation, RemoveTrigger) and operation.trigger.channel == name
        case After.LATEST:
            return False
    return None


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
