"""The doorbell: the LISTEN connection, which listeners never use. Knows no row."""

from __future__ import annotations

import dataclasses
import select
import time
import uuid
from collections.abc import Iterable, Mapping
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
    named,
    prepare,
)
from pgpubsub_sql.worker.forks import sever

PROBE_SECONDS = 5.0
"""Time for a NOTIFY to arrive through a pooler, before it is assumed that none ever does."""

ECHO_SECONDS = 20.0
"""Time between two NOTIFYs that a worker sends to itself, and longest time for one to arrive."""

READ_TOGETHER = 1000
"""When so many NOTIFYs were read, they are handled before more are read."""

_SETTING = {"name": "application_name", "local": False}
LOCK_TIMEOUT = {"name": "lock_timeout", "value": "1s", "local": False}
"""Nothing waits for longer on this connection, which hears no NOTIFY meanwhile."""

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
    """Process id of the backend that sent it."""


class Doorbell:
    """Receives NOTIFYs on *names*, on a connection with Django's settings for the alias *using*.

    The server shows it under its *purpose*, by which workers are counted, and *name*.

    :meth:`fileno` makes it an object to wait for. The driver's errors are not caught: they mean
    that the connection is lost.
    """

    def __init__(
        self, names: Iterable[str], *, using: str, name: str = "", purpose: str = LISTEN
    ) -> None:
        self.names = list(names)
        self.using = using
        self._name = name
        self._purpose = purpose
        self._wrapper: Any = None
        self._connection: Any = None
        """The driver's connection in the wrapper."""
        self._notifies: list[Notify] = []
        self._elected: set[str] = set()
        self.echo = f"pgpubsub_sql.{uuid.uuid4().hex}"
        """A name that only this worker notifies, to see that NOTIFYs still arrive: the connection
        to a proxy that has lost its server, or to a frozen server, stays open."""
        self._echo_sent: float | None = None

    @property
    def errors(self) -> type[Exception]:
        """The driver's base class of errors, none of which Django raises."""
        return driver_error(self.using)

    def open(self) -> None:
        """Connect and LISTEN.

        Raises :class:`NotReady` if a pooler keeps NOTIFYs from arriving.
        """
        self._wrapper = listening_connection(self.using)
        self._connection = self._wrapper.connection
        keep_alive(self._wrapper)
        if is_psycopg3:
            self._connection.add_notify_handler(self._heard)
        self._listen()
        follow(self._wrapper)
        prepare(self._wrapper, self._purpose, self._name)
        execute(self._wrapper, query("set_setting"), LOCK_TIMEOUT)

    def close(self) -> None:
        """Close the connection, and forget NOTIFYs that were received and not fetched."""
        if self._wrapper is not None:
            hang_up(self._wrapper)
            self._wrapper = self._connection = None
        self._notifies.clear()
        self._elected.clear()
        self._echo_sent = None

    def sever(self) -> None:
        """Give up the connection, in a process that was forked from its owner."""
        if self._connection is not None:
            sever(self._connection)

    def fileno(self) -> int:
        """Return the file descriptor of the connection's socket."""
        return int(self._connection.fileno())

    @property
    def is_open(self) -> bool:
        """Whether it has a connection, as far as is known."""
        return self._connection is not None and not self._connection.closed

    @property
    def has_notifies(self) -> bool:
        """Whether there are NOTIFYs that have been read from the socket already."""
        return bool(self._notifies)

    def notifies(self) -> list[Notify]:
        """Return the NOTIFYs received since the last call, without waiting.

        Raises one of :attr:`errors` if an expected echo does not arrive.
        """
        while self._read() and len(self._notifies) < READ_TOGETHER:
            pass
        heard, self._notifies = self._notifies, []
        if self._echo_sent and not heard and self._echo_sent + ECHO_SECONDS < time.monotonic():
            raise self.errors(
                f"a NOTIFY sent to itself has not arrived in {ECHO_SECONDS:g} seconds"
            )
        return heard

    def expect_echo(self) -> None:
        """Expect the NOTIFY that was sent to :attr:`echo` on another connection."""
        self._echo_sent = self._echo_sent or time.monotonic()

    def execute(self, text: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """Execute a statement on this connection; return its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(text, parameters)
            rows = cursor.fetchall() if cursor.description else []
        if not is_psycopg3:
            self._fetch_psycopg2()
        return rows

    def show(self, purpose: str) -> None:
        """Have the server show the session for another purpose."""
        if purpose != self._purpose:
            shown = named(self._wrapper, purpose, self._name)
            self.execute(query("set_setting"), _SETTING | {"value": shown})
        self._purpose = purpose

    def elect(self, name: str) -> bool:
        """Return whether this worker has to store raw NOTIFYs on a durable channel.

        The first worker to ask is elected until it closes its doorbell. So the elected worker is
        always listening, and none is elected while nobody sends raw NOTIFYs.
        """
        if name not in self._elected:
            ((is_elected,),) = self.execute(query("elect"), {"channel": name})
            if is_elected:
                self._elected.add(name)
        return name in self._elected

    def _listen(self) -> None:
        """LISTEN, and check that it works."""
        pooled = self._is_pooled()
        if pooled:
            self._refuse_to_share()
        with self._connection.cursor() as cursor:
            cursor.execute(_listening([*self.names, self.echo]))
            cursor.execute("SELECT pg_listening_channels()")
            self._verify({name for (name,) in cursor.fetchall()})
        if pooled:
            self._probe()

    def _verify(self, listening: set[str]) -> None:
        if missing := set(self.names) - listening:
            raise NotReady(f"LISTEN {', '.join(sorted(missing))} had no effect. {_REMEDY}")

    def _is_pooled(self) -> bool:
        """Return whether a pooler is in between."""
        return is_pooled(self._wrapper, backend(self._wrapper))

    def _refuse_to_share(self) -> None:
        """Raise :class:`NotReady` rather than LISTEN on a backend that others use, too."""
        with listening(self.using) as other:
            is_shared = backend(other) == backend(self._wrapper)
        if is_shared:
            raise NotReady(
                f"LISTEN is impossible on {self.using!r}: its sessions are shared. {_REMEDY}"
            )

    def _probe(self) -> None:
        """Check that a NOTIFY from another connection arrives, as a pooler may keep it."""
        with listening(self.using) as other:
            execute(other, query("ring"), {"channels": [self.echo]})
        self.expect_echo()
        deadline = time.monotonic() + PROBE_SECONDS
        while self._echo_sent:
            if not select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise NotReady(f"No NOTIFY arrives from {self.using!r}. {_REMEDY}")
            self._read()

    def _read(self) -> bool:
        """Read what has arrived, or a part of it; return whether there were NOTIFYs."""
        before = len(self._notifies)
        if is_psycopg3:
            self._read_psycopg3()
        else:
            self._connection.poll()
            self._fetch_psycopg2()
        return len(self._notifies) > before

    def _heard(self, notify: Any) -> None:
        self._add(notify.channel, notify.payload, notify.pid)

    def _add(self, channel: str, payload: str, pid: int) -> None:
        if channel == self.echo:
            self._echo_sent = None
        else:
            self._notifies.append(Notify(channel, payload, pid))

    def _fetch_psycopg2(self) -> None:
        # The list stays the same: a pool's wrapper would keep a new one for itself.
        heard = self._connection.notifies[:]
        self._connection.notifies.clear()
        for notify in heard:
            self._add(notify.channel, notify.payload, notify.pid)

    def _read_psycopg3(self) -> None:
        # Not notifies(): it has a timeout only since psycopg 3.2, and before 3.2.4 it loses what
        # arrives while it is not running. What arrives with LISTEN comes to the handler.
        libpq = self._connection.pgconn
        libpq.consume_input()
        while notify := libpq.notifies():
            self._add(notify.relname.decode(), notify.extra.decode(), notify.be_pid)


def _listening(names: Iterable[str]) -> str:
    """Return SQL that listens to all *names* in one round trip."""
    return ";\n".join(render("queries/listen", channel=name) for name in names)
