"""Checks whether a database is ready for channels."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady, NotReadyYet
from pgpubsub_sql.sql.own_tables import (
    HANDLED,
    HISTORY,
    LONG_PAYLOAD,
    NOTIFICATION,
    SUBSCRIPTION,
    TABLES,
)
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.sql.templates import query

NEEDED = [
    *(
        (table, name)
        for table in (NOTIFICATION, LONG_PAYLOAD, SUBSCRIPTION, HISTORY)
        for name in TABLES[table]
    ),
    (HANDLED, "batch"),
]
"""The columns without which nobody can work, each with its table. Without the others, something is
not counted or shown."""


def check_ready(connection: BaseDatabaseWrapper) -> str:
    """Return the current schema of *connection*.

    Raises :class:`NotReady` if it is not PostgreSQL, and :class:`NotReadyYet` if our own migrations
    have not run there, or not all.
    """
    schema, is_migrated = check_postgresql(connection)
    alias = connection.alias
    if not is_migrated:
        raise NotReadyYet(
            f"The tables of pgpubsub_sql are missing in the database {alias!r}. "
            f"Run: python manage.py migrate --database {alias}\n"
            "If it has nothing to apply, the tables were dropped. Run: "
            f"python manage.py pgpubsub install --database {alias}"
        )
    _check_columns(connection)
    return schema


def _check_columns(connection: BaseDatabaseWrapper) -> None:
    tables, names = map(list, zip(*NEEDED, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(query("lacking"), {"tables": tables, "names": names})
        lacking = cursor.fetchone()
    if lacking:
        table, is_gone, columns = lacking
        alias = connection.alias
        what = "is missing" if is_gone else f"has no {columns}"
        kind = "view" if table == HANDLED else "table"
        raise NotReadyYet(
            f"The {kind} {table} in the database {alias!r} {what}: it is older than this version "
            f"of the code, or newer. Run: python manage.py migrate --database {alias}\n"
            f"If it has nothing to apply, the {kind} was changed. Run: "
            f"python manage.py pgpubsub install --database {alias}"
        )


def check_postgresql(connection: BaseDatabaseWrapper) -> tuple[str, bool]:
    """Return the current schema of *connection*, and whether our tables are on its search_path.

    Raises :class:`NotReady` if it is not PostgreSQL, does not commit, or may not see our tables.
    """
    alias = connection.alias
    if connection.vendor != "postgresql":
        raise NotReady(
            f"The database {alias!r} is {connection.display_name}, but channels need PostgreSQL. "
            "Choose another database with --database."
        )
    check_autocommit(connection)
    with connection.cursor() as cursor:
        cursor.execute(query("ready_to_listen"))
        schema, is_migrated, role, grant = cursor.fetchone()
    if grant and not is_migrated:
        raise NotReady(
            f"The role {role!r} cannot see the tables of pgpubsub_sql in the database {alias!r}: "
            f"it lacks USAGE on their schema. Have the owner of the schema run: {grant};"
        )
    return str(schema), bool(is_migrated)


def check_workable(connection: BaseDatabaseWrapper) -> str:
    """Return the current schema of *connection*, as :func:`check_ready` does.

    Raises :class:`NotReadyYet` also on a standby or in read-only transactions, and
    :class:`NotReady` also without privileges, or behind row level security that hides the stored
    messages.
    """
    schema = check_ready(connection)
    with connection.cursor() as cursor:
        cursor.execute(query("workable"))
        role, is_standby, is_read_only = cursor.fetchone()
    where = f"the database {connection.alias!r}"
    if is_standby:
        raise NotReadyYet(
            f"The server of {where} is a standby, where NOTIFY and writes are impossible. Connect "
            "to the primary, for example by naming all servers in HOST and adding "
            '"target_session_attrs": "read-write" to OPTIONS.'
        )
    if is_read_only:
        raise NotReadyYet(
            f"Transactions of the role {role!r} in {where} are read-only, and a worker has to "
            "write. Turn off default_transaction_read_only for this role (ALTER ROLE … SET "
            "default_transaction_read_only = off), or have the worker use another one."
        )
    check_role(connection, Role.LISTENER)
    return schema


def check_role(connection: BaseDatabaseWrapper, role: Role) -> None:
    """Raise :class:`NotReady` if the role of *connection* lacks privileges of a *role*."""
    if missing := missing_for(connection, role):
        raise NotReady(f"{missing.text}. {missing.remedy} (database {connection.alias!r})")


def unreachable(alias: str, error: Exception) -> NotReady:
    """Return the error for a database that cannot be connected to, in one line."""
    return NotReady(
        f"The database {alias!r} cannot be reached. Start its server, or correct DATABASES in the "
        f"settings. PostgreSQL's driver says: {' '.join(str(error).split())}"
    )


def check_autocommit(connection: BaseDatabaseWrapper) -> None:
    """Raise :class:`NotReady` if *connection* is not in autocommit mode."""
    if not connection.in_atomic_block and not connection.get_autocommit():
        alias = connection.alias
        raise NotReady(
            f"The database {alias!r} has AUTOCOMMIT = False in DATABASES, so nothing that a worker "
            "does would be committed. Remove that setting, or give workers an alias without it and "
            "name it by --database."
        )


def search_path(connection: BaseDatabaseWrapper) -> str:
    """Return the search_path of *connection*."""
    with connection.cursor() as cursor:
        cursor.execute(query("get_setting"), {"name": "search_path"})
        return str(cursor.fetchone()[0])


def place(connection: BaseDatabaseWrapper) -> str:
    """Return the schema and the database of *connection*, in words."""
    with connection.cursor() as cursor:
        cursor.execute(query("place"))
        return str(cursor.fetchone()[0])
