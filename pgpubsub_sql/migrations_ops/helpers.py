"""The operation that installs what all channels share."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from pgpubsub_sql.migrations_ops.applying import execute, find_schemas
from pgpubsub_sql.sql import SQL, render


class CreateHelper(Operation):
    """Install one of the functions that every channel shares. Only our own migrations do."""

    category = OperationCategory.SQL

    def __init__(self, name: str, signature: str) -> None:
        self.name = name
        self.signature = signature

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: Any
    ) -> None:
        """Create the function, for the owner alone to execute."""
        if _is_allowed(app_label, schema_editor):
            schema = find_schemas(schema_editor).current
            signature = SQL(self.signature)
            created = render(f"helpers/{self.name}", schema=schema)
            revoked = render("helpers/revoke", schema=schema, signature=signature)
            execute(schema_editor, [created, revoked])

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: Any
    ) -> None:
        """Drop the function."""
        if _is_allowed(app_label, schema_editor):
            schema = find_schemas(schema_editor).current
            dropped = render("helpers/drop", schema=schema, signature=SQL(self.signature))
            execute(schema_editor, [dropped])

    def describe(self) -> str:
        """Return one line for people."""
        return f"Create function {self.signature}"


def _is_allowed(app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
    connection = schema_editor.connection
    return connection.vendor == "postgresql" and router.allow_migrate(
        connection.alias, app_label, model_name="notification"
    )
