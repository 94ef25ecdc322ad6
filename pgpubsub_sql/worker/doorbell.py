"""The LISTEN connection: its own, never lent to listeners. Knows no row."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql import render

logger = logging.getLogger("pgpubsub_sql.worker")

APPLICATION_NAME = "pgpubsub_sql listen"
"""How PostgreSQL shows workers, and ``queries/workers.sql`` counts them; what the project calls its
connections follows in parentheses."""

DEFAULTS = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""A server that is gone without a word is noticed within a minute (libpq's parameters)."""


class Ring(NamedTuple):
    """One NOTIFY."""

    channel: str
    payload: str


class Doorbell:
    """Hears NOTIFY on *names*, over a connection made like that of the alias *using*.

    Opened and closed by :meth:`open` and :meth:`close`; has a ``fileno()``, to be waited on.
    Errors of the driver pass through: they mean that the connection is lost.
    """

    def __init__(self, names: Iterable[str], *, using: str) -> None:
        self.names = list(names)
        self.using = using
        self._connection: Any = None
        self._rings: list[Ring] = []

    @property
    def errors(self) -> type[Exception]:
        """What the driver raises, and nobody else: Django's errors are of other classes."""
        django: Any = connections[self.using]
        error: type[Exception] = django.Database.Error
        return error

    def open(self) -> None:
        """Connect and LISTEN.

        Raises :class:`NotReady` if the LISTEN did not take.
        """
        django: Any = connections[self.using]
        parameters = django.get_connection_params()
        given = parameters.get("application_name")
        name = f"{APPLICATION_NAME} ({given})" if given else APPLICATION_NAME
        self._connection = django.Database.connect(
            **DEFAULTS | parameters | {"application_name": name}
        )
        self._connection.autocommit = True
        if is_psycopg3:
            self._connection.add_notify_handler(self._heard)
        with self._connection.cursor() as cursor:
            for name in self.names:
                cursor.execute(render("queries/listen", channel=name))
            cursor.execute("SELECT pg_listening_channels()")
            self._verify({name for (name,) in cursor.fetchall()})

    def close(self) -> None:
        """Close the connection; what was heard and not fetched is forgotten."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._rings.clear()

    def fileno(self) -> int:
        """The connection's socket."""
        return int(self._connection.fileno())

    def rings(self) -> list[Ring]:
        """Return what was heard since the last call, without waiting."""
        if is_psycopg3:
            self._read_psycopg3()
        else:
            self._read_psycopg2()
        heard, self._rings = self._rings, []
        return heard

    def _verify(self, listening: set[str]) -> None:
        missing = set(self.names) - listening
        if missing:
            raise NotReady(
                f"LISTEN {', '.join(sorted(missing))} did not take. A pooler in transaction mode "
                "(PgBouncer, RDS Proxy) drops it silently: connect the worker to PostgreSQL "
                "directly, or through a pooler in session mode."
            )

    def _heard(self, notify: Any) -> None:
        self._rings.append(Ring(notify.channel, notify.payload))

    def _read_psycopg2(self) -> None:
        self._connection.poll()
        for notify in self._connection.notifies:
            self._heard(notify)
        self._connection.notifies.clear()

    def _read_psycopg3(self) -> None:
        # Not notifies(), which since psycopg 3.2 alone has a timeout, and before 3.2.4 forgets
        # what arrives while it is not running; what arrives with LISTEN, the handler hears.
        libpq = self._connection.pgconn
        libpq.consume_input()
        while notify := libpq.notifies():
            self._rings.append(Ring(notify.relname.decode(), notify.extra.decode()))
