"""PostgreSQL settings by which a transaction tells our functions in the database something.

Each is set by a statement of its own. Prepended to every statement, it would break ``executemany``
and server-side parameter binding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from django.apps import apps
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import require_installed
from pgpubsub_sql.sql import query

_BROKEN = (3, 4)
"""libpq's PQTRANS_INERROR, a failed transaction, and PQTRANS_UNKNOWN, a lost connection. Both
drivers use these numbers."""


def connection_of(using: str | None, *, sends: bool = True) -> BaseDatabaseWrapper:
    """Return the connection *using*, or else the one to which routers send notifications.

    Raises :class:`NotReady` if it is not PostgreSQL, or this package is not an installed app. A
    caller that *sends* nothing itself may use another database if the project has no PostgreSQL.
    """
    require_installed()
    alias = using or router.db_for_write(apps.get_model("pgpubsub_sql", "Notification"))
    connection = connections[alias]
    if connection.vendor == "postgresql" or not (sends or _has_postgresql()):
        return connection
    raise NotReady(
        f"The database {alias!r} is {connection.display_name}, but notifications need PostgreSQL: "
        "name a PostgreSQL alias by using, or let a router choose one."
    )


def _has_postgresql() -> bool:
    return any(connection.vendor == "postgresql" for connection in connections.all())


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open, to whose end a local setting lasts."""
    return connection.in_atomic_block or not connection.get_autocommit()


def read_setting(connection: BaseDatabaseWrapper, name: str) -> str:
    """Return the value of a setting; empty if it is not set or not on PostgreSQL."""
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute(query("get_setting"), {"name": name})
        return str(cursor.fetchone()[0])


def write_setting(
    connection: BaseDatabaseWrapper, name: str, value: str, *, local: bool = True
) -> None:
    """Set a setting, for this transaction if *local*, or else for this session.

    Does nothing in a failed transaction, or on a database that is not PostgreSQL.
    """
    if connection.vendor == "postgresql" and not is_broken(connection):
        with connection.cursor() as cursor:
            cursor.execute(query("set_setting"), {"name": name, "value": value, "local": local})


@contextmanager
def changed_setting(
    name: str, change: Callable[[str], str], *, using: str | None
) -> Iterator[None]:
    """Set a setting to what *change* returns for its value, and restore that value on exit.

    Opens a transaction if none is open. Does nothing in a failed one.
    """
    connection = connection_of(using, sends=False)
    if is_broken(connection):
        yield
        return
    # No second atomic() inside a transaction: an exception that the caller means to handle would
    # mark the outer one for rollback.
    opened = nullcontext() if connection.in_atomic_block else transaction.atomic(connection.alias)
    with opened:
        outer = read_setting(connection, name)
        write_setting(connection, name, change(outer))
        try:
            yield
        finally:
            write_setting(connection, name, outer)


def is_broken(connection: BaseDatabaseWrapper) -> bool:
    """Whether the open transaction has failed; the driver knows before Django does."""
    is_postgresql = connection.vendor == "postgresql"
    if connection.needs_rollback or not (is_postgresql and is_in_transaction(connection)):
        return connection.needs_rollback
    return int(connection.connection.info.transaction_status) in _BROKEN
