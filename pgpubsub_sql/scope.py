"""What a transaction tells our functions in the database: settings of PostgreSQL's own.

A setting is made once, by a statement of its own. Put before every statement instead, it would
break ``executemany`` and parameters that the server binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from django.apps import apps
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import demand_installed
from pgpubsub_sql.sql import query

_DEAD = (3, 4)
"""libpq's numbers, the same under both drivers: PQTRANS_INERROR, a transaction that has failed,
and PQTRANS_UNKNOWN, a connection that is lost."""


def connection_of(using: str | None, *, sends: bool = True) -> BaseDatabaseWrapper:
    """Return the connection of an alias; without one, of the alias that notifications go to.

    Raises :class:`NotReady` if that is no PostgreSQL, or this package is no installed app. What
    *sends* nothing by itself may go on in a project that has no PostgreSQL at all.
    """
    demand_installed()
    alias = using or router.db_for_write(apps.get_model("pgpubsub_sql", "Notification"))
    connection = connections[alias]
    if connection.vendor == "postgresql" or not (sends or _has_postgresql()):
        return connection
    raise NotReady(
        f"The database {alias!r} is {connection.display_name}, and notifications are "
        "PostgreSQL's: give an alias that is PostgreSQL as using, or have a router say so."
    )


def _has_postgresql() -> bool:
    return any(connection.vendor == "postgresql" for connection in connections.all())


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether what is set now lasts until somebody commits or rolls back."""
    return connection.in_atomic_block or not connection.get_autocommit()


def read(connection: BaseDatabaseWrapper, name: str) -> str:
    """Return a setting as somebody has set it; empty where nobody has, or can."""
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute(query("get_setting"), {"name": name})
        return str(cursor.fetchone()[0])


def write(connection: BaseDatabaseWrapper, name: str, value: str, *, local: bool = True) -> None:
    """Make a setting, for this transaction or else for as long as the connection lasts.

    Does nothing in a transaction that has failed, and where no trigger could read it.
    """
    if connection.vendor == "postgresql" and not _is_dead(connection):
        with connection.cursor() as cursor:
            cursor.execute(query("set_setting"), {"name": name, "value": value, "local": local})


@contextmanager
def changed(name: str, change: Callable[[str], str], *, using: str | None) -> Iterator[None]:
    """Have a setting be what *change* makes of it; on leaving, it is what it was.

    Opens a transaction if there is none. Does nothing in one that has failed.
    """
    connection = connection_of(using, sends=False)
    if _is_dead(connection):
        yield
        return
    # Inside somebody's transaction no second atomic(): an exception that the caller means to
    # handle would mark all of it for rollback.
    opened = nullcontext() if connection.in_atomic_block else transaction.atomic(connection.alias)
    with opened:
        outer = read(connection, name)
        write(connection, name, change(outer))
        try:
            yield
        finally:
            write(connection, name, outer)


def _is_dead(connection: BaseDatabaseWrapper) -> bool:
    """Whether the open transaction takes nothing more; the driver knows before Django does."""
    is_postgresql = connection.vendor == "postgresql"
    if connection.needs_rollback or not (is_postgresql and is_in_transaction(connection)):
        return connection.needs_rollback
    return int(connection.connection.info.transaction_status) in _DEAD
