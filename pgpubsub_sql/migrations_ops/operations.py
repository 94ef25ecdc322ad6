"""The operations that our migrations hold.

Their arguments are plain values, so that a migration written today needs nothing of this
package but these names. Projects' migrations import them for ever.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import RenameModel
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.operations.fields import FieldOperation
from django.db.migrations.operations.models import IndexOperation, ModelOptionOperation
from django.db.migrations.state import ProjectState
from django.db.models import Model

from pgpubsub_sql import conf
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.tables import check_plan, find_site
from pgpubsub_sql.sql import SQL, query, render
from pgpubsub_sql.sql.installing import Site, alter, create, drop
from pgpubsub_sql.sql.trigger import Trigger

Specification = Trigger | Mapping[str, Any]


class Schemas(NamedTuple):
    """Where the search_path leads."""

    current: str
    """Where new objects go."""
    helpers: str
    """Where our own tables are; where they will go, if they are not there yet."""
    function: str
    """Where a channel's function is; where it will go, if it is not there yet."""


def find_schemas(schema_editor: BaseDatabaseSchemaEditor, function: str = "") -> Schemas:
    """Return the schemas that concern this run of migrate, and the function of that name.

    Raises :class:`NotReady` if there is no schema to install anything in.
    """
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(query("find_schemas"), {"function": function})
        current, helpers, found = cursor.fetchone()
    if current is None:
        raise NotReady(
            "The search_path of this connection names no schema that exists, so there is "
            "nowhere to install triggers. Set it for the role or in OPTIONS of DATABASES."
        )
    return Schemas(current, helpers or current, found or current)


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
            schema = find_schemas(schema_editor).current
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
            schema = find_schemas(schema_editor).current
            dropped = render("helpers/drop", schema=schema, signature=SQL(self.signature))
            _execute(schema_editor, [dropped])

    def describe(self) -> str:
        """Return one line for people."""
        return f"Create function {self.signature}"

    def _allowed(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        connection = schema_editor.connection
        return connection.vendor == "postgresql" and router.allow_migrate(
            connection.alias, app_label, model_name="notification"
        )


class TriggerOperation(Operation):
    """What the three operations on a trigger share: finding the table, doing nothing on a
    database that the model does not live on, and what may be moved past them."""

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
        return self.trigger.model == f"{app_label}.{name}".lower()

    def references_field(self, model_name: str, name: str, app_label: str) -> bool:
        """Whether the trigger may name a column of this model."""
        return _names_columns(self.trigger) and self.references_model(model_name, app_label)

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Merge with a later operation on the same channel, or let others pass."""
        if _is_on(operation, self.trigger):
            merged = self._merge(operation)
        elif isinstance(operation, RenameModel):
            merged = self._follow(operation, app_label)
        else:
            merged = None
        if merged is not None:
            return merged
        return super().reduce(operation, app_label) or self._is_passed_by(operation)

    def _merge(self, operation: TriggerOperation) -> list[Operation] | None:
        """Return what does the same as this and then *operation*, on the same channel."""
        raise NotImplementedError

    def _follow(self, rename: RenameModel, app_label: str) -> list[Operation] | None:
        """Return the same with *rename* first, so that it can meet the CreateModel."""
        return None

    def _is_passed_by(self, operation: Operation) -> bool:
        """Whether it makes no difference which of the two comes first."""
        if isinstance(operation, TriggerOperation):
            return operation.trigger.channel != self.trigger.channel
        label, _, name = self.trigger.model.partition(".")
        if isinstance(operation, (FieldOperation, IndexOperation, ModelOptionOperation)):
            return not (_names_columns(self.trigger) and operation.references_model(name, label))
        return not operation.references_model(name, label)

    def _create(
        self, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, trigger: Trigger
    ) -> None:
        if is_allowed(schema_editor.connection, state, trigger):
            schemas = find_schemas(schema_editor, trigger.function)
            site = _site(schema_editor, state, trigger, schemas.current, schemas)
            _execute(schema_editor, create(trigger, site))

    def _check(self, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState) -> None:
        """Fail for what PostgreSQL cannot plan: on the way forwards, when every column is there.

        On the way back a column that the specification names may yet have to be restored.
        """
        if not schema_editor.collect_sql and is_allowed(
            schema_editor.connection, state, self.trigger
        ):
            schemas = find_schemas(schema_editor, self.trigger.function)
            site = _site(schema_editor, state, self.trigger, schemas.current, schemas)
            check_plan(schema_editor.connection, self.trigger, site)

    def _drop(
        self, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, trigger: Trigger
    ) -> None:
        if is_allowed(schema_editor.connection, state, trigger):
            schema = find_schemas(schema_editor, trigger.function).function
            _execute(schema_editor, drop(trigger, schema=schema))


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
        self._check(schema_editor, to_state)
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
        return f"Add trigger of channel {_channel(self.trigger)} to {self.trigger.model}"

    @property
    def migration_name_fragment(self) -> str:
        """Name the migration after the channel."""
        return f"{_fragment(self.trigger)}_trigger"

    def _merge(self, operation: TriggerOperation) -> list[Operation] | None:
        if isinstance(operation, AlterTrigger) and operation.old == self.trigger:
            return [AddTrigger(operation.trigger)]
        if isinstance(operation, RemoveTrigger) and operation.trigger == self.trigger:
            return []
        return None

    def _follow(self, rename: RenameModel, app_label: str) -> list[Operation] | None:
        if renamed := _renamed(self.trigger, rename, app_label):
            return [rename, AddTrigger(renamed)]
        return None


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

    def references_model(self, name: str, app_label: str) -> bool:
        """Whether the trigger sits, or sat, on this model."""
        return f"{app_label}.{name}".lower() in (self.old.model, self.trigger.model)

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Replace what differs."""
        self._check(schema_editor, to_state)
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
        return f"Alter trigger of channel {_channel(self.trigger)} on {self.trigger.model}"

    @property
    def migration_name_fragment(self) -> str:
        """Name the migration after the channel."""
        return f"alter_{_fragment(self.trigger)}_trigger"

    def _merge(self, operation: TriggerOperation) -> list[Operation] | None:
        if isinstance(operation, AlterTrigger) and operation.old == self.trigger:
            return _change(self.old, operation.trigger)
        if isinstance(operation, RemoveTrigger) and operation.trigger == self.trigger:
            return [RemoveTrigger(self.old)]
        return None

    def _follow(self, rename: RenameModel, app_label: str) -> list[Operation] | None:
        old = _renamed(self.old, rename, app_label)
        new = _renamed(self.trigger, rename, app_label)
        return [rename, AlterTrigger(old, new)] if old and new else None

    def _alter(
        self,
        schema_editor: BaseDatabaseSchemaEditor,
        state: ProjectState,
        old: Trigger,
        new: Trigger,
    ) -> None:
        if (old.channel, old.model) != (new.channel, new.model):
            self._drop(schema_editor, state, old)
            self._create(schema_editor, state, new)
        elif is_allowed(schema_editor.connection, state, new):
            schemas = find_schemas(schema_editor, new.function)
            site = _site(schema_editor, state, new, schemas.function, schemas)
            _execute(schema_editor, alter(old, new, site))


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
        return f"Remove trigger of channel {_channel(self.trigger)} from {self.trigger.model}"

    @property
    def migration_name_fragment(self) -> str:
        """Name the migration after the channel."""
        return f"remove_{_fragment(self.trigger)}_trigger"

    def _merge(self, operation: TriggerOperation) -> list[Operation] | None:
        same_table = operation.trigger.model == self.trigger.model
        if isinstance(operation, AddTrigger) and same_table:
            return _change(self.trigger, operation.trigger)
        return None


def _is_on(operation: Operation, trigger: Trigger) -> TypeGuard[TriggerOperation]:
    return isinstance(operation, TriggerOperation) and operation.trigger.channel == trigger.channel


def _change(old: Trigger, new: Trigger) -> list[Operation]:
    return [] if old == new else [AlterTrigger(old, new)]


def _renamed(trigger: Trigger, rename: RenameModel, app_label: str) -> Trigger | None:
    """Return *trigger* as *rename* leaves it, or None if that concerns another model."""
    if trigger.model != f"{app_label}.{rename.old_name_lower}":
        return None
    return dataclasses.replace(trigger, model=f"{app_label}.{rename.new_name_lower}")


def _names_columns(trigger: Trigger) -> bool:
    return bool(trigger.columns or trigger.watch or trigger.condition or trigger.ordering_key)


def is_allowed(connection: BaseDatabaseWrapper, state: ProjectState, trigger: Trigger) -> bool:
    """Whether the table of *trigger* lives on this database, in the eyes of the routers.

    A model that is gone is asked for by name: what was on its table can still be dropped.
    """
    if connection.vendor != "postgresql":
        return False
    label, _, name = trigger.model.partition(".")
    hints = {}
    with contextlib.suppress(LookupError):
        hints["model"] = state.apps.get_model(label, name)
    return router.allow_migrate(connection.alias, label, model_name=name, **hints)


def _site(
    schema_editor: BaseDatabaseSchemaEditor,
    state: ProjectState,
    trigger: Trigger,
    schema: str,
    schemas: Schemas,
) -> Site:
    model: type[Model] = state.apps.get_model(trigger.model)
    return find_site(
        schema_editor.connection,
        trigger,
        model._meta.db_table,
        schema=schema,
        helpers=schemas.helpers,
        owner=conf.owner(),
    )


def _channel(trigger: Trigger) -> str:
    """Return the channel's name on one line: ``sqlmigrate`` shows it in a comment."""
    return " ".join(trigger.channel.split())


def _fragment(trigger: Trigger) -> str:
    name = trigger.channel.rpartition(".")[2].lower()
    return "".join(character if character.isalnum() else "_" for character in name)
