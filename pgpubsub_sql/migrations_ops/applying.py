"""Installing, altering and dropping of triggers by a migration."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState
from django.db.models import Model

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.stale_labels import triggers_on_disk
from pgpubsub_sql.migrations_ops.watched_tables import check_columns, find_target
from pgpubsub_sql.sql import query, quote_table, render
from pgpubsub_sql.sql.ddl import Target, alter, create, drop
from pgpubsub_sql.sql.privileges import missing_to_install, partition_owners, statements
from pgpubsub_sql.sql.trigger import Trigger

Editor = BaseDatabaseSchemaEditor

logger = logging.getLogger("pgpubsub_sql.migrations")


def apply_change(
    editor: Editor,
    app_label: str,
    state: ProjectState,
    before: Trigger | None,
    after: Trigger | None,
) -> None:
    """Change a trigger from one specification to another; None stands for no trigger.

    Does nothing if the routers keep the model off this database.

    Raises :class:`NotReady` if every write would fail, or if PostgreSQL cannot plan the function's
    statements.
    """
    same = before and after and (before.channel, before.model) == (after.channel, after.model)
    if before and not same and is_allowed(editor.connection, state, before):
        _drop(editor, before, _find_model(app_label, state, before))
    if after and is_allowed(editor.connection, state, after):
        model = _find_model(app_label, state, after)
        if model and not model._meta.swapped:
            target = _find_target(editor, app_label, after, model._meta.db_table)
            if editor.collect_sql or _is_possible(app_label, model, after, target, editor):
                if not editor.collect_sql:
                    _grant_privileges(editor, after, target)
                sql = alter(before, after, target) if before and same else create(after, target)
                execute(editor, sql)
                execute(editor, _grants_to_owners(editor, after, target))


def execute(editor: Editor, sql: Iterable[str]) -> None:
    """Execute SQL as it is: percent signs are not placeholders."""
    for statement in sql:
        editor.execute(statement, params=None)


class Schemas(NamedTuple):
    """Schemas that the search_path finds."""

    current: str
    """Schema in which new objects are created."""
    helpers: str | None
    """Schema of our own tables and helpers; None if they are not in this database."""
    function: str | None
    """Schema of a channel's function; None if it is not installed."""


def find_schemas(
    connection: BaseDatabaseWrapper, function: str = "", table: str | None = None
) -> Schemas:
    """Return the schemas that the search_path finds.

    A function of the given name counts only if its triggers are on no table but the quoted *table*:
    where schemas are tenants, a function further down the search_path belongs to another tenant.

    Raises :class:`NotReady` if there is no schema to install anything in.
    """
    with connection.cursor() as cursor:
        cursor.execute(query("find_schemas"), {"function": function, "table": table})
        schemas = Schemas(*cursor.fetchone())
    if schemas.current is None:
        raise NotReady(
            "The search_path of this connection names no existing schema, so there is nowhere to "
            "install triggers. Set it for the role, or in OPTIONS of DATABASES."
        )
    return schemas


def is_allowed(connection: BaseDatabaseWrapper, state: ProjectState, trigger: Trigger) -> bool:
    """Whether the routers allow the table of *trigger* on this database.

    A model that is gone is known to them by name only. Triggers on its table can still be dropped.
    """
    if connection.vendor != "postgresql":
        return False
    if not router.routers:
        return True  # without rendering the models, which takes seconds in a large project
    label, _, name = trigger.model.partition(".")
    hints = {}
    with contextlib.suppress(LookupError):
        hints["model"] = state.apps.get_model(label, name)
    return router.allow_migrate(connection.alias, label, model_name=name, **hints)


def _drop(editor: Editor, trigger: Trigger, model: type[Model] | None) -> None:
    table = quote_table(model._meta.db_table) if model else None
    schemas = find_schemas(editor.connection, trigger.function, table)
    execute(editor, drop(trigger, schema=schemas.function or schemas.current))


def _find_model(app_label: str, state: ProjectState, trigger: Trigger) -> type[Model] | None:
    """Return the model of *trigger*; None if it is gone and the trigger will go too.

    The model's package may have renamed or deleted it in a migration that ours does not depend on
    and that a new database runs first.
    """
    with contextlib.suppress(LookupError):
        return state.apps.get_model(trigger.model)
    recorded = triggers_on_disk()
    for name in recorded.names(trigger.model):
        with contextlib.suppress(LookupError):
            return state.apps.get_model(name)
    if recorded.keeps(app_label, trigger):
        raise NotReady(
            f"The channel {trigger.channel!r} watches the model {trigger.model!r}, which does not "
            f"exist at this point of the migrations. Add the model's migration to the dependencies "
            f"of the one in {app_label!r}. If the model is gone for good, run makemigrations."
        )
    return None


def _find_target(editor: Editor, app_label: str, trigger: Trigger, db_table: str) -> Target:
    """Return where *trigger* is to be installed.

    Raises :class:`NotReady` if *db_table* is not a table, or writes would fail.
    """
    schemas = find_schemas(editor.connection, trigger.function, quote_table(db_table))
    if schemas.helpers is None and not editor.collect_sql:
        raise NotReady(
            f"The trigger of channel {trigger.channel!r} would make every write fail, because the "
            f"tables of pgpubsub_sql are not in the database {editor.connection.alias!r}. Let the "
            "routers allow the app 'pgpubsub_sql' there, and migrate it."
        )
    schema = schemas.function or schemas.current
    names = {"helpers": schemas.helpers or schemas.current, "app": app_label}
    target = find_target(editor.connection, trigger, db_table, schema=schema, **names)
    # sqlmigrate shows what runs on a database that has run the migrations before.
    return dataclasses.replace(target, installed=None) if editor.collect_sql else target


def _grant_privileges(editor: Editor, trigger: Trigger, target: Target) -> None:
    """Grant the privileges that the functions' roles lack.

    Raises :class:`NotReady` if this session's role may not grant one: writes would fail.
    """
    missing = missing_to_install(editor.connection, trigger, target)
    if denied := next((one for one in missing if not one.is_ours_to_give), None):
        raise NotReady(
            f"The trigger of channel {trigger.channel!r} is not installed: "
            f"{denied.channel or 'pgpubsub_sql'} {denied.text}. {denied.remedy}"
        )
    execute(editor, statements(missing))


def _grants_to_owners(editor: Editor, trigger: Trigger, target: Target) -> Iterator[str]:
    for role in partition_owners(editor.connection, target):
        names = {"schema": target.schema, "function": trigger.function}
        yield render("triggers/grant_function", role=role, **names)


def _is_possible(
    app_label: str, model: type[Model], trigger: Trigger, target: Target, editor: Editor
) -> bool:
    """Whether *trigger* can be installed. Raises :class:`NotReady` if it cannot, but has to be."""
    if target.qualified is None and not model._meta.managed:
        logger.warning(
            "The trigger of channel %s is not installed: the database %s has no table %s, and no "
            "migration creates it. Once it exists, run: python manage.py pgpubsub install",
            *(trigger.channel, editor.connection.alias, target.db_table),
        )
        return False
    if target.qualified is None:
        # Backwards, a migration that ours does not depend on may have dropped the table already.
        return _is_kept(app_label, trigger)
    try:
        check_columns(editor.connection, trigger, target)
    except NotReady:
        # Backwards, or on a new database, a column may not exist any more, or not yet.
        if _is_kept(app_label, trigger):
            raise
    return True


def _is_kept(app_label: str, trigger: Trigger) -> bool:
    return triggers_on_disk().keeps(app_label, trigger)
