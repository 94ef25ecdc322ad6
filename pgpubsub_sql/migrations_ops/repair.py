"""Changing what is installed outside of migrations: for ``manage.py pgpubsub``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.migrations_ops.applying import execute
from pgpubsub_sql.migrations_ops.audit import Audit
from pgpubsub_sql.migrations_ops.history import Key
from pgpubsub_sql.migrations_ops.operations import AddTrigger
from pgpubsub_sql.sql import SQL, render
from pgpubsub_sql.sql.catalogue import InstalledFunction
from pgpubsub_sql.sql.privileges import Missing, statements


def install(connection: BaseDatabaseWrapper, found: Audit, keys: Iterable[Key]) -> None:
    """Bring these channels to what is expected, all of them or none."""
    with connection.schema_editor(atomic=True) as editor:
        for key in keys:
            execute(editor, _dropped(found, key))
            AddTrigger(found.expected[key]).database_forwards(
                key[0], editor, found.state, found.state
            )


def installing_sql(connection: BaseDatabaseWrapper, found: Audit, key: Key) -> list[str]:
    """Return the statements that install a channel that is expected."""
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        operation = AddTrigger(found.expected[key])
        operation.database_forwards(key[0], editor, found.state, found.state)
    collected: list[str] = editor.collected_sql
    return collected


def give(connection: BaseDatabaseWrapper, missing: Iterable[Missing]) -> None:
    """Give what this session's role may give, all of it or nothing."""
    _execute(connection, statements(one for one in missing if one.is_ours_to_give))


def uninstall(connection: BaseDatabaseWrapper, functions: Iterable[InstalledFunction]) -> None:
    """Drop functions, and with them every trigger that calls them, all of them or none."""
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

    One that fires is left as it is: it may have been told to fire ALWAYS.
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
    """Yield what takes away what of a channel nothing replaces."""
    for one in found.surplus_triggers(key):
        yield render("triggers/drop_trigger", trigger=one.name, table=one.quoted_table)
    for other in found.surplus_functions(key):
        yield render("triggers/drop_function", schema=other.schema, function=other.name)


def _execute(connection: BaseDatabaseWrapper, statements: Iterable[str]) -> None:
    with connection.schema_editor(atomic=True) as editor:
        execute(editor, statements)
