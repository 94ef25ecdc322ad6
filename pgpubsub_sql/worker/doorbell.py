"""The LISTEN connection: its own, never lent to listeners. Knows no row."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql import query, render

APPLICATION_NAME = "pgpubsub_sql listen"
"""How PostgreSQL shows workers, and ``queries/workers.sql`` counts them; what the worker is called,
or else what the project calls its connections, follows in parentheses."""

DEFAULTS = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""A server that is gone without a word is noticed within a minute (libpq's parameters)."""

PROBE_SECONDS = 5.0
"""How long a NOTIFY may take through a pooler before it is known that none ever comes."""

_REMEDY = (
    "A pooler in transaction mode (PgBouncer, RDS Proxy) takes LISTEN and delivers nothing: have "
    "the worker connect to PostgreSQL directly, or through a pooler in session mode."
)


class Ring(NamedTuple):
    """One NOTIFY."""

    channel: str
    payload: str


class Doorbell:
    """Hears NOTIFY on *names*, over a connection made like that of the alias *using*.

    Opened and closed by :meth:`open` and :meth:`close`; has a ``fileno()``, to be waited on.
    Errors of the driver pass through: they mean that the connection is lost.
    """

    def __init__(self, names: Iterable[str], *, using: str, name: str = "") -> None:
        self.names = list(names)
        self.using = using
        self._name = name
        self._connection: Any = None
        self._rings: list[Ring] = []
        self._elected: set[str] = set()

    @property
    def errors(self) -> type[Exception]:
        """What the driver raises, and nobody else: Django's errors are of other classes."""
        django: Any = connections[self.using]
        error: type[Exception] = django.Database.Error
        return error

    def open(self) -> None:
        """Connect and LISTEN.

        Raises :class:`NotReady` if a pooler keeps it from hearing.
        """
        self._connection = self._connect()
        if is_psycopg3:
            self._connection.add_notify_handler(self._heard)
        with self._connection.cursor() as cursor:
            for name in self.names:
                cursor.execute(render("queries/listen", channel=name))
            cursor.execute("SELECT pg_listening_channels()")
            self._verify({name for (name,) in cursor.fetchall()})
            if self._is_pooled(cursor):
                self._probe()

    def close(self) -> None:
        """Close the connection; what was heard and not fetched is forgotten."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._rings.clear()
        self._elected.clear()

    def fileno(self) -> int:
        """The connection's socket."""
        return int(self._connection.fileno())

    @property
    def has_heard(self) -> bool:
        """Whether there are rings of which the socket does not tell, as they have been read."""
        return bool(self._rings)

    def rings(self) -> list[Ring]:
        """Return what was heard since the last call, without waiting."""
        self._read()
        heard, self._rings = self._rings, []
        return heard

    def elect(self, name: str) -> bool:
        """Whether this is the worker that has to store what comes by NOTIFY on a durable channel.

        The first to ask is, until it closes. So it is one whose ear is open, and there is none to
        find while nobody sends such things.
        """
        if name not in self._elected:
            with self._connection.cursor() as cursor:
                cursor.execute(query("elect"), {"channel": name})
                ((is_elected,),) = cursor.fetchall()
            if not is_psycopg3:
                self._fetch_psycopg2()
            if is_elected:
                self._elected.add(name)
        return name in self._elected

    def _connect(self) -> Any:
        django: Any = connections[self.using]
        parameters = django.get_connection_params()
        given = self._name or parameters.get("application_name")
        name = f"{APPLICATION_NAME} ({given})" if given else APPLICATION_NAME
        connection = django.Database.connect(**DEFAULTS | parameters | {"application_name": name})
        connection.autocommit = True
        return connection

    def _verify(self, listening: set[str]) -> None:
        if missing := set(self.names) - listening:
            raise NotReady(f"LISTEN {', '.join(sorted(missing))} did not take. {_REMEDY}")

    def _is_pooled(self, cursor: Any) -> bool:
        """Whether another process answers than the one that was connected to."""
        cursor.execute("SELECT pg_backend_pid()")
        return bool(cursor.fetchone()[0] != self._connection.info.backend_pid)

    def _probe(self) -> None:
        """Ring once from another connection: a pooler may have given LISTEN to one of its own."""
        with closing(self._connect()) as other, other.cursor() as cursor:
            cursor.execute(query("ring"), {"channels": self.names[:1]})
        deadline = time.monotonic() + PROBE_SECONDS
        while not self._rings:
            if not select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise NotReady(f"No NOTIFY comes through from {self.using!r}. {_REMEDY}")
            self._read()

    def _read(self) -> None:
        if is_psycopg3:
            self._read_psycopg3()
        else:
            self._connection.poll()
            self._fetch_psycopg2()

    def _heard(self, notify: Any) -> None:
        self._rings.append(Ring(notify.channel, notify.payload))

    def _fetch_psycopg2(self) -> None:
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
