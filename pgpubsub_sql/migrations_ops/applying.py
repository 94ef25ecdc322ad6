"""What operations do to a database."""

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
from pgpubsub_sql.migrations_ops.labels import read_from_disk
from pgpubsub_sql.migrations_ops.tables import check_plan, find_site
from pgpubsub_sql.sql import query, quote_table, render
from pgpubsub_sql.sql.installing import Site, alter, create, drop
from pgpubsub_sql.sql.privileges import missing_to_install, partition_owners, statements
from pgpubsub_sql.sql.trigger import Trigger

Editor = BaseDatabaseSchemaEditor

logger = logging.getLogger("pgpubsub_sql.migrations")


def change(
    editor: Editor,
    app_label: str,
    state: ProjectState,
    before: Trigger | None,
    after: Trigger | None,
) -> None:
    """Bring the database from one specification to another; None means that there is none.

    Does nothing where the routers keep the model from this database.

    Raises :class:`NotReady` for what would make every write fail, and for what PostgreSQL cannot
    plan.
    """
    same = before and after and (before.channel, before.model) == (after.channel, after.model)
    if before and not same and is_allowed(editor.connection, state, before):
        _drop(editor, before, _find_model(app_label, state, before))
    if after and is_allowed(editor.connection, state, after):
        model = _find_model(app_label, state, after)
        if model and not model._meta.swapped:
            site = _find_site(editor, app_label, after, model._meta.db_table)
            if editor.collect_sql or _is_possible(app_label, model, after, site, editor):
                if not editor.collect_sql:
                    _give_privileges(editor, after, site)
                made = alter(before, after, site) if before and same else create(after, site)
                execute(editor, made)
                execute(editor, _grants(editor, after, site))


def execute(editor: Editor, sql: Iterable[str]) -> None:
    """Execute SQL in which a percent sign is nothing special."""
    for statement in sql:
        editor.execute(statement, params=None)


class Schemas(NamedTuple):
    """Where the search_path leads."""

    current: str
    """Where new objects go."""
    helpers: str | None
    """Where our own tables are, if they are on this database."""
    function: str | None
    """Where a channel's function is, if it is there already."""


def find_schemas(
    connection: BaseDatabaseWrapper, function: str = "", table: str | None = None
) -> Schemas:
    """Return the schemas that concern this run of migrate.

    The function is the one of that name which serves no other table than the quoted *table*:
    where schemas are tenants, one further down the search_path belongs to somebody else.

    Raises :class:`NotReady` if there is no schema to install anything in.
    """
    with connection.cursor() as cursor:
        cursor.execute(query("find_schemas"), {"function": function, "table": table})
        schemas = Schemas(*cursor.fetchone())
    if schemas.current is None:
        raise NotReady(
            "The search_path of this connection names no schema that exists, so there is "
            "nowhere to install triggers. Set it for the role or in OPTIONS of DATABASES."
        )
    return schemas


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


def _drop(editor: Editor, trigger: Trigger, model: type[Model] | None) -> None:
    table = quote_table(model._meta.db_table) if model else None
    schemas = find_schemas(editor.connection, trigger.function, table)
    execute(editor, drop(trigger, schema=schemas.function or schemas.current))


def _find_model(app_label: str, state: ProjectState, trigger: Trigger) -> type[Model] | None:
    """Return the model of *trigger*; None if it is gone, as the trigger will be.

    The package that has the model may have renamed or deleted it, in a migration of which ours
    knows nothing and which a fresh database runs first.
    """
    with contextlib.suppress(LookupError):
        return state.apps.get_model(trigger.model)
    recorded = read_from_disk()
    for name in recorded.names(trigger.model):
        with contextlib.suppress(LookupError):
            return state.apps.get_model(name)
    if recorded.keeps(app_label, trigger):
        raise NotReady(
            f"The model {trigger.model!r}, which the channel {trigger.channel!r} watches, is not "
            f"there at this point. Add its migration to the dependencies of the one in "
            f"{app_label!r}, or run makemigrations if the model has gone for good."
        )
    return None


def site_of(
    connection: BaseDatabaseWrapper, app_label: str, trigger: Trigger, db_table: str
) -> Site:
    """Return where *trigger* is, or is to be.

    Raises :class:`NotReady` for what is no table, and where there is no schema for the function.
    """
    schemas = find_schemas(connection, trigger.function, quote_table(db_table))
    names = {"helpers": schemas.helpers or schemas.current, "app": app_label}
    schema = schemas.function or schemas.current
    return find_site(connection, trigger, db_table, schema=schema, **names)


def nowhere(connection: BaseDatabaseWrapper, app_label: str, db_table: str) -> Site:
    """Return the site of what has no table that could be watched."""
    schema = find_schemas(connection).current
    return Site(db_table=db_table, schema=schema, helpers=schema, app=app_label)


def _find_site(editor: Editor, app_label: str, trigger: Trigger, db_table: str) -> Site:
    if find_schemas(editor.connection).helpers is None and not editor.collect_sql:
        raise NotReady(
            f"The trigger of channel {trigger.channel!r} would make every write fail: the tables "
            f"of pgpubsub_sql are not on the database {editor.connection.alias!r}. Let the "
            "routers allow the app 'pgpubsub_sql' there, and migrate it."
        )
    site = site_of(editor.connection, app_label, trigger, db_table)
    # sqlmigrate shows what runs where the migrations before have run.
    return dataclasses.replace(site, installed=None) if editor.collect_sql else site


def _give_privileges(editor: Editor, trigger: Trigger, site: Site) -> None:
    """Give the roles that functions run as what they lack, where that is this role's to give.

    Raises :class:`NotReady` where it is not: writes would fail.
    """
    missing = missing_to_install(editor.connection, trigger, site)
    if hopeless := next((one for one in missing if not one.is_ours_to_give), None):
        raise NotReady(
            f"The trigger of channel {trigger.channel!r} is not installed: "
            f"{hopeless.channel or 'pgpubsub_sql'} {hopeless.text}. {hopeless.remedy}"
        )
    execute(editor, statements(missing))


def _grants(editor: Editor, trigger: Trigger, site: Site) -> Iterator[str]:
    for role in partition_owners(editor.connection, site):
        names = {"schema": site.schema, "function": trigger.function}
        yield render("triggers/grant_function", role=role, **names)


def _is_possible(
    app_label: str, model: type[Model], trigger: Trigger, site: Site, editor: Editor
) -> bool:
    """Whether *trigger* can be installed; where it cannot, but must, an error says so."""
    if site.qualified is None and not model._meta.managed:
        logger.warning(
            "The trigger of channel %s is not installed: the database %s has no table %s, and no "
            "migration makes it. Run: python manage.py pgpubsub install, once it is there",
            *(trigger.channel, editor.connection.alias, site.db_table),
        )
        return False
    if site.qualified is None:
        # On the way back, the model may have gone in a migration that did not wait for ours.
        return _is_kept(app_label, trigger)
    try:
        check_plan(editor.connection, trigger, site)
    except NotReady:
        # On the way back, and on a fresh database, a column may not be there any more, or yet.
        if _is_kept(app_label, trigger):
            raise
    return True


def _is_kept(app_label: str, trigger: Trigger) -> bool:
    return read_from_disk().keeps(app_label, trigger)
