"""The LISTEN connection: its own, never lent to listeners. Knows no row."""

from __future__ import annotations

import dataclasses
import select
import time
import uuid
from collections.abc import Iterable
from typing import Any

from pgpubsub_sql.django_internals import driver_error, is_psycopg3
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql import query, render
from pgpubsub_sql.worker.connections import (
    LISTEN,
    backend,
    execute,
    follow,
    hang_up,
    is_pooled,
    keep_alive,
    listening,
    listening_connection,
    prepare,
)
from pgpubsub_sql.worker.forks import sever

PROBE_SECONDS = 5.0
"""How long a NOTIFY may take through a pooler before it is known that none ever comes."""

ECHO_SECONDS = 20.0
"""How often a worker rings itself, and how long that may take before it is known to be deaf."""

_REMEDY = (
    "A pooler in transaction mode (PgBouncer, RDS Proxy) accepts LISTEN, and delivers nothing. "
    "Have the worker connect to PostgreSQL directly, or through a pooler in session mode."
)


@dataclasses.dataclass(slots=True)
class Notify:
    """One NOTIFY."""

    channel: str
    payload: str
    pid: int = dataclasses.field(default=0, compare=False)
    """The server process that has sent it."""


class Doorbell:
    """Hears NOTIFY on *names*, over a connection made as Django's for the alias *using* is.

    Opened and closed by :meth:`open` and :meth:`close`; has a ``fileno()``, to be waited on.
    Errors of the driver pass through: they mean that the connection is lost.
    """

    def __init__(self, names: Iterable[str], *, using: str, name: str = "") -> None:
        self.names = list(names)
        self.using = using
        self._name = name
        self._wrapper: Any = None
        self._connection: Any = None
        """The driver's, of the wrapper."""
        self._notifies: list[Notify] = []
        self._elected: set[str] = set()
        self.echo = f"pgpubsub_sql.{uuid.uuid4().hex}"
        """A name that nobody else rings. It shows that what is sent arrives: a proxy that has lost
        its server, or a server that is frozen, keeps a connection that hears no more."""
        self._echo_sent: float | None = None

    @property
    def errors(self) -> type[Exception]:
        """What the driver raises, and nobody else: Django's errors are of other classes."""
        return driver_error(self.using)

    def open(self) -> None:
        """Connect and LISTEN.

        Raises :class:`NotReady` if a pooler keeps it from hearing.
        """
        self._wrapper = listening_connection(self.using)
        self._connection = self._wrapper.connection
        keep_alive(self._wrapper)
        if is_psycopg3:
            self._connection.add_notify_handler(self._heard)
        self._listen()
        follow(self._wrapper)
        prepare(self._wrapper, LISTEN, self._name)

    def close(self) -> None:
        """Close the connection; what was heard and not fetched is forgotten."""
        if self._wrapper is not None:
            hang_up(self._wrapper)
            self._wrapper = self._connection = None
        self._notifies.clear()
        self._elected.clear()
        self._echo_sent = None

    def sever(self) -> None:
        """Let go of the connection in a process that is forked from the one that opened it."""
        if self._connection is not None:
            sever(self._connection)

    def fileno(self) -> int:
        """The connection's socket."""
        return int(self._connection.fileno())

    @property
    def has_notifies(self) -> bool:
        """Whether there are rings of which the socket does not tell, as they have been read."""
        return bool(self._notifies)

    def notifies(self) -> list[Notify]:
        """Return what was heard since the last call, without waiting.

        Raises one of :attr:`errors` if an echo that is expected does not come.
        """
        self._read()
        heard, self._notifies = self._notifies, []
        if self._echo_sent and not heard and self._echo_sent + ECHO_SECONDS < time.monotonic():
            raise self.errors(
                f"a NOTIFY sent to itself has not arrived in {ECHO_SECONDS:g} seconds"
            )
        return heard

    def expect_echo(self) -> None:
        """Expect to hear what was sent to :attr:`echo` from another connection."""
        self._echo_sent = self._echo_sent or time.monotonic()

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

    def _listen(self) -> None:
        """LISTEN, and make sure that it was not taken in vain."""
        pooled = self._is_pooled()
        if pooled:
            self._refuse_to_share()
        with self._connection.cursor() as cursor:
            for name in [*self.names, self.echo]:
                cursor.execute(render("queries/listen", channel=name))
            cursor.execute("SELECT pg_listening_channels()")
            self._verify({name for (name,) in cursor.fetchall()})
        if pooled:
            self._probe()

    def _verify(self, listening: set[str]) -> None:
        if missing := set(self.names) - listening:
            raise NotReady(f"LISTEN {', '.join(sorted(missing))} had no effect. {_REMEDY}")

    def _is_pooled(self) -> bool:
        """Whether another process answers than the one that was connected to."""
        return is_pooled(self._wrapper, backend(self._wrapper))

    def _refuse_to_share(self) -> None:
        """Leave no LISTEN behind with a process that answers to others, too."""
        with listening(self.using) as other:
            is_shared = backend(other) == backend(self._wrapper)
        if is_shared:
            raise NotReady(
                f"LISTEN is impossible on {self.using!r}: its sessions are shared. {_REMEDY}"
            )

    def _probe(self) -> None:
        """Ring once from another connection: a pooler may have given LISTEN to one of its own."""
        with listening(self.using) as other:
            execute(other, query("ring"), {"channels": [self.echo]})
        self.expect_echo()
        deadline = time.monotonic() + PROBE_SECONDS
        while self._echo_sent:
            if not select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise NotReady(f"No NOTIFY arrives from {self.using!r}. {_REMEDY}")
            self._read()

    def _read(self) -> None:
        if is_psycopg3:
            self._read_psycopg3()
        else:
            self._connection.poll()
            self._fetch_psycopg2()

    def _heard(self, notify: Any) -> None:
        self._add(notify.channel, notify.payload, notify.pid)

    def _add(self, channel: str, payload: str, pid: int) -> None:
        if channel == self.echo:
            self._echo_sent = None
        else:
            self._notifies.append(Notify(channel, payload, pid))

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
            self._add(notify.relname.decode(), notify.extra.decode(), notify.be_pid)
