"""The operations in projects' migrations: AddTrigger, AlterTrigger and RemoveTrigger.

Their arguments are plain values, so that migrations depend on nothing in this package but these
names, which must therefore never change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import RenameModel
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from pgpubsub_sql.django_internals import (
    SINGLE_MODEL_OPERATIONS,
    OperationCategory,
    as_in_migrations,
)
from pgpubsub_sql.migrations_ops.applying import apply_change
from pgpubsub_sql.migrations_ops.recorded_triggers import TriggerChange
from pgpubsub_sql.sql.trigger import Trigger

Specification = Trigger | Mapping[str, Any]


class TriggerOperation(TriggerChange):
    """Base class of the three operations.

    Forwards, each changes a trigger from the specification *before* to the one *after*, either of
    which may be None; backwards it does the opposite.
    """

    serialization_expand_args = ["trigger", "old", "new"]  # noqa: RUF012 - Django's own name
    description: ClassVar[str]
    fragment: ClassVar[str]

    trigger: Trigger
    """The new specification or, for a removal, the old one."""

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return the name and the arguments that a migration file has."""
        return type(self).__qualname__, [], {"trigger": _plain(self.trigger)}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Do nothing: trigger state is read from the operations themselves."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Install what the operation leads to."""
        apply_change(schema_editor, app_label, to_state, self.before, self.after)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Install what the operation starts from."""
        apply_change(schema_editor, app_label, to_state, self.after, self.before)

    def describe(self) -> str:
        """Return the line that ``makemigrations`` prints and ``sqlmigrate`` shows in a comment."""
        channel = " ".join(self.trigger.channel.split())
        return self.description.format(channel=channel, model=self.trigger.model)

    @property
    def migration_name_fragment(self) -> str:
        """Name the migration after the channel."""
        name = self.trigger.channel.rpartition(".")[2].lower()
        words = "".join(character if character.isalnum() else "_" for character in name)
        return self.fragment.format(words)

    def references_model(self, name: str, app_label: str) -> bool:
        """Whether the trigger is, or was, on this model."""
        label = f"{app_label}.{name}".lower()
        return any(label == trigger.model for trigger in (self.before, self.after) if trigger)

    def references_field(self, model_name: str, name: str, app_label: str) -> bool:
        """Whether the trigger may name a column of this model."""
        return self._names_columns and self.references_model(model_name, app_label)

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Merge with a later operation on the same channel, or let unrelated ones pass."""
        merged = None
        if isinstance(operation, RenameModel):
            merged = self._after_rename(operation, app_label)
        elif isinstance(operation, TriggerOperation) and self._is_continued_by(operation):
            merged = operations(self.before, operation.after)
        if merged is not None:
            return merged
        return super().reduce(operation, app_label) or self._is_unrelated_to(operation)

    def _is_continued_by(self, operation: TriggerOperation) -> bool:
        """Whether *operation* starts from what this one leads to, on the same channel and table."""
        ends, begins = self.trigger, operation.before or operation.trigger
        return self.after == operation.before and (ends.channel, ends.model) == (
            begins.channel,
            begins.model,
        )

    def _after_rename(self, rename: RenameModel, app_label: str) -> list[Operation] | None:
        """Return *rename* and then this operation, so that *rename* can merge with CreateModel."""
        if not self.references_model(rename.old_name, app_label):
            return None
        before, after = (_renamed(one, rename, app_label) for one in (self.before, self.after))
        return [rename, *operations(before, after)]

    def _is_unrelated_to(self, operation: Operation) -> bool:
        """Whether the order of the two operations makes no difference."""
        if isinstance(operation, TriggerOperation):
            return operation.trigger.channel != self.trigger.channel
        label, _, name = self.trigger.model.partition(".")
        if isinstance(operation, SINGLE_MODEL_OPERATIONS):
            return not (self._names_columns and operation.references_model(name, label))
        return not operation.references_model(name, label)

    @property
    def _names_columns(self) -> bool:
        return any(trigger.names_columns for trigger in (self.before, self.after) if trigger)


class AddTrigger(TriggerOperation):
    """Install the function and triggers of a channel."""

    category = OperationCategory.ADDITION
    description = "Add trigger of channel {channel} to {model}"
    fragment = "{}_trigger"

    def __init__(self, trigger: Specification) -> None:
        self.trigger = self.after = Trigger.of(trigger)


class AlterTrigger(TriggerOperation):
    """Change the function and triggers of a channel from one specification to another."""

    category = OperationCategory.ALTERATION
    description = "Alter trigger of channel {channel} on {model}"
    fragment = "alter_{}_trigger"

    def __init__(self, old: Specification, new: Specification) -> None:
        self.old = self.before = Trigger.of(old)
        self.trigger = self.after = Trigger.of(new)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return the name and both specifications, which make the operation reversible."""
        arguments = {"old": _plain(self.old), "new": _plain(self.trigger)}
        return type(self).__qualname__, [], arguments


class RemoveTrigger(TriggerOperation):
    """Drop the function and triggers of a channel."""

    category = OperationCategory.REMOVAL
    description = "Remove trigger of channel {channel} from {model}"
    fragment = "remove_{}_trigger"

    def __init__(self, trigger: Specification) -> None:
        self.trigger = self.before = Trigger.of(trigger)


def operations(before: Trigger | None, after: Trigger | None) -> list[Operation]:
    """Return the operation from one specification to another, if they differ."""
    match before, after:
        case None, Trigger():
            return [AddTrigger(after)]
        case Trigger(), None:
            return [RemoveTrigger(before)]
        case Trigger(), Trigger() if before != after:
            return [AlterTrigger(before, after)]
    return []


def _renamed(trigger: Trigger | None, rename: RenameModel, app_label: str) -> Trigger | None:
    """Return *trigger* with the new name of its model."""
    if trigger is None or trigger.model != f"{app_label}.{rename.old_name_lower}":
        return trigger
    return dataclasses.replace(trigger, model=f"{app_label}.{rename.new_name_lower}")


def _plain(trigger: Trigger) -> dict[str, Any]:
    """Return the values of *trigger*, with a reference to the setting of a swappable model."""
    return trigger.deconstruct() | {"model": as_in_migrations(trigger.model)}
