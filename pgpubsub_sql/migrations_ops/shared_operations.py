"""The operations of our own migrations, which install what all channels share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from pgpubsub_sql import conf
from pgpubsub_sql.channels import exceptional_names
from pgpubsub_sql.django_internals import OperationCategory
from pgpubsub_sql.migrations_ops.applying import execute, find_schemas
from pgpubsub_sql.sql import SQL, part, quote_literal, render
from pgpubsub_sql.sql.own_tables import SLOTS


class CreateShared(Operation):
    """Create an object in the current schema, without privileges for other roles."""

    category = OperationCategory.SQL

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Do nothing: models do not change."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: Any
    ) -> None:
        """Create it."""
        if _is_allowed(app_label, schema_editor):
            self.create(find_schemas(schema_editor.connection).current, schema_editor)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: Any
    ) -> None:
        """Drop it."""
        if _is_allowed(app_label, schema_editor):
            self.drop(find_schemas(schema_editor.connection).current, schema_editor)

    def create(self, schema: str, schema_editor: BaseDatabaseSchemaEditor) -> None:
        """Create it in *schema*, or replace what is there."""
        execute(schema_editor, self._created(schema))

    def drop(self, schema: str, schema_editor: BaseDatabaseSchemaEditor) -> None:
        """Drop it from *schema*."""
        execute(schema_editor, [self._dropped(schema)])

    def _created(self, schema: str) -> Iterator[str]:
        raise NotImplementedError

    def _dropped(self, schema: str) -> str:
        raise NotImplementedError


class CreateHelper(CreateShared):
    """Create a helper function."""

    def __init__(self, name: str, signature: str) -> None:
        self.name = name
        self.signature = signature

    def describe(self) -> str:
        """Return the line that ``sqlmigrate`` shows in a comment."""
        return f"Create function {self.signature}"

    def statement(self, schema: str) -> str:
        """Return the statement that creates or replaces it."""
        return render(f"helpers/{self.name}", schema=schema)

    def _created(self, schema: str) -> Iterator[str]:
        yield self.statement(schema)
        yield render("helpers/revoke", schema=schema, signature=SQL(self.signature))

    def _dropped(self, schema: str) -> str:
        return render("helpers/drop", schema=schema, signature=SQL(self.signature))


class CreateIsNotified(CreateHelper):
    """Create the function that says which channels notify, from what is declared now.

    ``migrate`` renews it each time: see :func:`.maintenance.follow_declarations`.
    """

    def __init__(self) -> None:
        super().__init__("is_notified", "pgpubsub_is_notified(text)")

    def statement(self, schema: str) -> str:
        """Return the statement that creates or replaces it."""
        names = ["", *exceptional_names()]  # no channel has an empty name, and no array may be
        quoted = SQL(", ".join(map(quote_literal, names)))
        decision = "helpers/all_but" if conf.is_notify_used() else "helpers/only"
        return render("helpers/is_notified", schema=schema, decision=part(decision, names=quoted))


class TuneAutovacuum(CreateShared):
    """Have autovacuum work on the table of messages without delays."""

    def describe(self) -> str:
        """Return the line that ``sqlmigrate`` shows in a comment."""
        return "Tune autovacuum of table pgpubsub_sql_notification"

    def _created(self, schema: str) -> Iterator[str]:
        yield render("helpers/tune_autovacuum", schema=schema)

    def _dropped(self, schema: str) -> str:
        return render("helpers/reset_autovacuum", schema=schema)


class CreateSecret(CreateShared):
    """Create the table of the secret with which messages are signed."""

    def describe(self) -> str:
        """Return the line that ``sqlmigrate`` shows in a comment."""
        return "Create table pgpubsub_sql_secret"

    def _created(self, schema: str) -> Iterator[str]:
        yield render("helpers/create_secret", schema=schema)
        yield render("helpers/fill_secret", schema=schema)
        yield render("helpers/revoke_secret", schema=schema)

    def _dropped(self, schema: str) -> str:
        return render("helpers/drop_secret", schema=schema)


class CreateCounters(CreateShared):
    """Create the table of counters."""

    def describe(self) -> str:
        """Return the line that ``sqlmigrate`` shows in a comment."""
        return "Create table pgpubsub_sql_counter"

    def _created(self, schema: str) -> Iterator[str]:
        yield render("helpers/create_counters", schema=schema)

    def _dropped(self, schema: str) -> str:
        return render("helpers/drop_counters", schema=schema)


class CreateSubscriptions(CreateShared):
    """Create the table of subscriptions. ``migrate`` fills it: see :mod:`.subscriptions`."""

    def describe(self) -> str:
        """Return the line that ``sqlmigrate`` shows in a comment."""
        return "Create table pgpubsub_sql_subscription"

    def _created(self, schema: str) -> Iterator[str]:
        yield render("helpers/create_subscriptions", schema=schema)

    def _dropped(self, schema: str) -> str:
        return render("helpers/drop_subscriptions", schema=schema)


class CreateHistory(CreateShared):
    """Create the history: a table and its view. ``migrate`` makes partitions: see :func:`slots`."""

    def describe(self) -> str:
        """Return the line that ``sqlmigrate`` shows in a comment."""
        return "Create table pgpubsub_sql_history and view pgpubsub_sql_handled"

    def _created(self, schema: str) -> Iterator[str]:
        yield render("helpers/create_history", schema=schema)
        yield render("helpers/create_history_indexes", schema=schema)
        yield from history_view(schema)

    def _dropped(self, schema: str) -> str:
        view = render("helpers/drop_handled", schema=schema)
        return "\n".join([view, render("helpers/drop_history", schema=schema)])


def history_view(schema: str) -> list[str]:
    """Return the statements that create the view of the history, in place of one that differs."""
    return [
        render("helpers/drop_handled", schema=schema),
        render("helpers/create_handled", schema=schema),
    ]


def slots(schema: str) -> str:
    """Return the statement that creates the partitions of the history that are missing."""
    return render("helpers/create_slots", schema=schema, last=SQL(str(SLOTS - 1)))


def _is_allowed(app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
    connection = schema_editor.connection
    return connection.vendor == "postgresql" and router.allow_migrate(
        connection.alias, app_label, model_name="notification"
    )
