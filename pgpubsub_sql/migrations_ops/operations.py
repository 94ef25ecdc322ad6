"""The operations that our migrations hold.

Their arguments are plain values, so that a migration written today needs nothing of this
package but these four names. Projects' migrations import them for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState
from django.db.models import Model

from pgpubsub_sql import conf
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql import SQL, render
from pgpubsub_sql.sql.trigger import Trigger, create, drop, drop_events

Specification = Trigger | Mapping[str, Any]


def current_schema(schema_editor: BaseDatabaseSchemaEditor) -> str:
    """Return the schema that migrate runs in: where unqualified names are created."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        (schema,) = cursor.fetchone()
    if schema is None:
        raise NotReady(
            "The search_path of this connection names no schema that exists, so there is "
            "nowhere to install triggers. Set it for the role or in OPTIONS of DATABASES."
        )
    return str(schema)


def _execute(schema_editor: BaseDatabaseSchemaEditor, statements: Iterable[SQL]) -> None:
    for statement in statements:
        schema_editor.execute(statement, params=None)


class CreateHelper(Operation):
    """Install one of the functions that every channel shares. Only our own migrations do."""

    category = OperationCategory.SQL

    def __init__(self, name: str, signature: str) -> None:
        self.name = name
        self.signature = signature

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the function, for the owner alone to execute."""
        if self._allowed(app_label, schema_editor):
            schema = current_schema(schema_editor)
            signature = SQL(self.signature)
            created = render(f"helpers/{self.name}", schema=schema)
            revoked = render("helpers/revoke", schema=schema, signature=signature)
            _execute(schema_editor, [created, revoked])

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop the function."""
        if self._allowed(app_label, schema_editor):
            schema = current_schema(schema_editor)
            _execute(
                schema_editor,
                [render("helpers/drop", schema=schema, signature=SQL(self.signature))],
            )

    def describe(self) -> str:
        """Return one line for people."""
        return f"Create function {self.signature}"

    def _allowed(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        connection = schema_editor.connection
        return connection.vendor == "postgresql" and router.allow_migrate(
            connection.alias, app_label, model_name="notification"
        )


class TriggerOperation(Operation):
    """What the three operations on a trigger share: finding the table, and doing nothing
    on a database that the model does not live on."""

    serialization_expand_args = ["trigger", "old", "new"]  # noqa: RUF012 - Django's own name

    def __init__(self, trigger: Specification) -> None:
        self.trigger = Trigger.of(trigger)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return what a migration file says."""
        return type(self).__qualname__, [], {"trigger": self.trigger.deconstruct()}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are: what is installed is folded from the operations."""

    def references_model(self, name: str, app_label: str) -> bool:
        """Whether the trigger sits on this model."""
        return self.trigger.model.lower() == f"{app_label}.{name}".lower()

    def _create(
        self, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, trigger: Trigger
    ) -> None:
        model = self._model(state, trigger)
        if self._allowed(schema_editor, model):
            _execute(
                schema_editor,
                create(
                    trigger,
                    db_table=model._meta.db_table,
                    schema=current_schema(schema_editor),
                    owner=conf.owner(),
                ),
            )

    def _drop(
        self, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, trigger: Trigger
    ) -> None:
        if self._allowed(schema_editor, self._model(state, trigger)):
            _execute(schema_editor, drop(trigger, schema=current_schema(schema_editor)))

    def _model(self, state: ProjectState, trigger: Trigger) -> type[Model]:
        model: type[Model] = state.apps.get_model(trigger.model)
        return model

    def _allowed(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model]) -> bool:
        connection = schema_editor.connection
        return connection.vendor == "postgresql" and router.allow_migrate_model(
            connection.alias, model
        )


class AddTrigger(TriggerOperation):
    """Install the function and the triggers of a channel."""

    category = OperationCategory.ADDITION

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the function, the triggers and their comments."""
        self._create(schema_editor, to_state, self.trigger)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop the function, and with it every trigger that calls it."""
        self._drop(schema_editor, from_state, self.trigger)

    def describe(self) -> str:
        """Return one line for people."""
        return f"Add trigger of channel {self.trigger.channel} to {self.trigger.model}"

    @property
    def migration_name_fragment(self) -> str:
        """Name the migration after the channel."""
        return f"{_fragment(self.trigger)}_trigger"

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Merge with a later operation on the same channel."""
        if isinstance(operation, AlterTrigger) and operation.old == self.trigger:
            return [AddTrigger(operation.trigger)]
        if isinstance(operation, RemoveTrigger) and operation.trigger == self.trigger:
            return []
        return super().reduce(operation, app_label)


class AlterTrigger(TriggerOperation):
    """Bring what is installed from one specification to another of the same channel."""

    category = OperationCategory.ALTERATION

    def __init__(self, old: Specification, new: Specification) -> None:
        super().__init__(new)
        self.old = Trigger.of(old)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return what a migration file says."""
        arguments = {"old": self.old.deconstruct(), "new": self.trigger.deconstruct()}
        return type(self).__qualname__, [], arguments

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Replace what differs."""
        self._alter(schema_editor, to_state, self.old, self.trigger)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Put back what was there before."""
        self._alter(schema_editor, to_state, self.trigger, self.old)

    def describe(self) -> str:
        """Return one line for people."""
        return f"Alter trigger of channel {self.trigger.channel} on {self.trigger.model}"

    @property
    def migration_name_fragment(self) -> str:
        """Name the migration after the channel."""
        return f"alter_{_fragment(self.trigger)}_trigger"

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Merge with a later operation on the same channel."""
        if isinstance(operation, AlterTrigger) and operation.old == self.trigger:
            return [AlterTrigger(self.old, operation.trigger)]
        if isinstance(operation, RemoveTrigger) and operation.trigger == self.trigger:
            return [RemoveTrigger(self.old)]
        return super().reduce(operation, app_label)

    def _alter(
        self,
        schema_editor: BaseDatabaseSchemaEditor,
        state: ProjectState,
        old: Trigger,
        new: Trigger,
    ) -> None:
        model = self._model(state, new)
        if not self._allowed(schema_editor, model):
            return
        if old.model != new.model:
            self._drop(schema_editor, state, old)
        else:
            gone = old.triggers().keys() - new.triggers().keys()
            names = [old.triggers()[event] for event in sorted(gone)]
            _execute(schema_editor, drop_events(names, db_table=model._meta.db_table))
        self._create(schema_editor, state, new)


class RemoveTrigger(TriggerOperation):
    """Take the function and the triggers of a channel away."""

    category = OperationCategory.REMOVAL

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop the function, and with it every trigger that calls it."""
        self._drop(schema_editor, from_state, self.trigger)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the function, the triggers and their comments again."""
        self._create(schema_editor, to_state, self.trigger)

    def describe(self) -> str:
        """Return one line for people."""
        return f"Remove trigger of channel {self.trigger.channel} from {self.trigger.model}"

    @property
    def migration_name_fragment(self) -> str:
        """Name the migration after the channel."""
        return f"remove_{_fragment(self.trigger)}_trigger"


def _fragment(trigger: Trigger) -> str:
    name = trigger.channel.rpartition(".")[2].lower()
    return "".join(character if character.isalnum() else "_" for character in name)
