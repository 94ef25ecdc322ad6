"""Changes to what is installed, outside of migrations.

``manage.py pgpubsub`` makes them, and ``migrate`` for apps that have no migrations: those whose
``MIGRATION_MODULES`` is None, as with ``--nomigrations`` and ``TEST["MIGRATE"]``, and those without
the package. Our own app may be one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.django_internals import LoadedMigrations, collected_sql, is_restricted
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops import subscriptions
from pgpubsub_sql.migrations_ops.applying import execute, find_schemas
from pgpubsub_sql.migrations_ops.audit import Audit, audit
from pgpubsub_sql.migrations_ops.declared_triggers import declared_triggers
from pgpubsub_sql.migrations_ops.operations import AddTrigger
from pgpubsub_sql.migrations_ops.recorded_triggers import Key
from pgpubsub_sql.migrations_ops.shared_faults import find_faults, repair_faults, shared_operations
from pgpubsub_sql.sql import SQL, render
from pgpubsub_sql.sql.catalogue import InstalledFunction
from pgpubsub_sql.sql.privileges import Missing, statements


def install(connection: BaseDatabaseWrapper, found: Audit, keys: Iterable[Key]) -> None:
    """Install these channels as expected, all of them or none."""
    with connection.schema_editor(atomic=True) as editor:
        for key in keys:
            execute(editor, _dropped(found, key))
            AddTrigger(found.expected[key]).database_forwards(
                key[0], editor, found.state, found.state
            )


def installing_sql(connection: BaseDatabaseWrapper, found: Audit, key: Key) -> list[str]:
    """Return the statements that install one expected channel."""
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        operation = AddTrigger(found.expected[key])
        operation.database_forwards(key[0], editor, found.state, found.state)
    return collected_sql(editor)


def grant(connection: BaseDatabaseWrapper, missing: Iterable[Missing]) -> None:
    """Grant what this session's role may grant, all of it or nothing."""
    _execute(connection, statements(one for one in missing if one.is_ours_to_give))


def uninstall(connection: BaseDatabaseWrapper, functions: Iterable[InstalledFunction]) -> None:
    """Drop functions and the triggers that call them, all of them or none."""
    _execute(
        connection,
        (
            render("triggers/drop_function", schema=function.schema, function=function.name)
            for function in functions
        ),
    )


def enable(
    connection: BaseDatabaseWrapper, functions: Iterable[InstalledFunction], *, on: bool
) -> None:
    """Enable or disable the triggers that call these functions, all of them or none.

    Enabling leaves a trigger that fires alone: it may be set to fire ALWAYS.
    """
    state = SQL("ENABLE" if on else "DISABLE")
    _execute(
        connection,
        (
            render(
                "triggers/restore_trigger",
                trigger=trigger.name,
                table=trigger.quoted_table,
                state=state,
            )
            for function in functions
            for trigger in function.triggers
            if not on or trigger.is_silent
        ),
    )


def _dropped(found: Audit, key: Key) -> Iterator[str]:
    """Yield the statements that drop surplus triggers and functions of a channel."""
    for one in found.surplus_triggers(key):
        yield render("triggers/drop_trigger", trigger=one.name, table=one.quoted_table)
    for other in found.surplus_functions(key):
        yield render("triggers/drop_function", schema=other.schema, function=other.name)


def _execute(connection: BaseDatabaseWrapper, statements: Iterable[str]) -> None:
    with connection.schema_editor(atomic=True) as editor:
        execute(editor, statements)


def install_unmigrated(using: str, **kwargs: Any) -> None:
    """Install the triggers of apps without migrations, after ``migrate``."""
    connection, unmigrated = connections[using], LoadedMigrations.read().unmigrated_apps
    if connection.vendor == "postgresql" and APP in unmigrated:
        _install_helpers(connection)
    if any(label in unmigrated for label, _ in declared_triggers()):
        _install_triggers(connection)


def follow_declarations(using: str, **kwargs: Any) -> None:
    """Write into the database which channels notify, and make room for what they keep.

    No migration holds it: the settings differ between the databases of a project, and it concerns
    channels of installed packages, whose migrations are not the project's.
    """
    connection = connections[using]
    if connection.vendor == "postgresql" and (schema := find_schemas(connection).helpers):
        faults = find_faults(connection, schema)
        repair_faults(connection, schema, [one for one in faults if one.is_outdated])


def register_subscriptions(using: str, **kwargs: Any) -> None:
    """Register the subscriptions that listeners declare, after ``migrate``.

    No worker does: one that is older, or newer, than the others would not know them all.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or is_restricted():  # names depend on all apps
        return
    if find_schemas(connection).helpers and subscriptions.has_table(connection):
        subscriptions.register(connection)


def _install_helpers(connection: BaseDatabaseWrapper) -> None:
    with connection.schema_editor(atomic=True) as editor:
        for operation in shared_operations():
            operation.database_forwards(APP, editor)


def _install_triggers(connection: BaseDatabaseWrapper) -> None:
    try:
        found = audit(connection)
    except NotReady:
        return  # channels do not work in this database
    install(connection, found, [key for key in found.installable() if key in found.unmigrated])
