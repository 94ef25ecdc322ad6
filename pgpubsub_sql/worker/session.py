"""The connection that a worker takes, handles and puts back on: Django's, and so the listeners'."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction
from django.db.utils import DatabaseError, OperationalError

from pgpubsub_sql.sql import INVALID_PARAMETER_VALUE, query, render, sqlstate
from pgpubsub_sql.worker.connecting import WORK, is_pooled, keep_alive, prepare
from pgpubsub_sql.worker.isolation import Isolation
from pgpubsub_sql.worker.outcomes import Discarded, Failure, charged

UNDECIDED_SECONDS = 0.02
"""Between two questions about a transaction that has not ended yet."""


class Session:
    """Django's connection for the alias *using*, and what it needs to be used by a worker."""

    def __init__(self, using: str, *, name: str = "") -> None:
        self.using = using
        self.is_pooled = False
        """Whether a pooler is in between. Then what outlives a transaction may be another client's
        next, so nothing may be set for longer."""
        self._name = name
        self._prepared: Any = None
        """The driver's connection that was prepared."""
        self._is_read_committed = True

    @property
    def connection(self) -> Any:
        """Django's connection. Its type in the stubs knows less than it has."""
        return connections[self.using]

    def execute(self, name: str, parameters: object = None, *, text: str | None = None) -> Any:
        """Execute ``queries/<name>.sql``, or its rendered *text*; return what it returns."""
        with self.connection.cursor() as cursor:
            cursor.execute(text or query(name), parameters)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def isolation(self, *, durable: bool = False) -> Iterator[Isolation]:
        """A READ COMMITTED transaction in which messages are isolated from one another.

        *durable* lets listeners open durable blocks in it, which then are as durable as it is.
        """
        self._prepare()
        block = transaction.atomic(using=self.using)
        # Django's own way of letting a durable block into a transaction of somebody else's.
        block._from_testcase = durable  # type: ignore[attr-defined]
        with block:
            if not self._is_read_committed:
                self.execute("read_committed")
            if self.is_pooled:
                self.execute(
                    "prepare_session", text=render("queries/prepare_session", local="true")
                )
            isolation = Isolation(self.connection)
            with isolation:
                yield isolation

    def charge(self, notification_id: int, attempts: int, outcome: Failure) -> None:
        """Write down the failure of a notification that is in nobody's hands.

        Without effect if somebody has had it in hand since it had failed *attempts* times.
        """
        values = {"id": notification_id, "attempts_before": attempts}
        if isinstance(outcome, Discarded):
            self.execute("forget", values)
        else:
            unchanged = {"attempts": attempts, "delay": None}
            self.execute("charge", values | unchanged | charged(attempts, outcome))

    def was_committed(self, transaction: str) -> bool:
        """Learn what became of a transaction whose end nobody saw.

        Raises :class:`OperationalError` if the server does not know after a second either. A
        backend that is still in it has lost its client, and is ended.
        """
        deadline = time.monotonic() + 1
        while (status := self._status(transaction)) == "in progress":
            if deadline < time.monotonic():
                raise OperationalError(
                    f"The server still works on the transaction {transaction}, in which a batch "
                    "was handled; what became of it decides what is next."
                )
            time.sleep(UNDECIDED_SECONDS)
        return status == "committed"

    def _status(self, transaction: str) -> str | None:
        try:
            return str(self.execute("end_transaction", {"transaction": transaction})[0][0])
        except DatabaseError as error:
            if sqlstate(error) != INVALID_PARAMETER_VALUE:
                raise
            return None  # a standby that has taken over, and never heard of it

    def drop_if_broken(self) -> None:
        """After a failure: have the next query open a new connection, unless this one works."""
        connection = self.connection
        if not connection.is_usable():
            connection.close()

    def tidy_up(self) -> None:
        """Let go of what listeners did with other aliases, as Django does after a request."""
        for connection in connections.all(initialized_only=True):
            if connection.alias != self.using and not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()

    def _prepare(self) -> None:
        """Once for every connection that Django opens."""
        connection = self.connection
        connection.ensure_connection()
        if connection.connection is self._prepared:
            return
        with transaction.atomic(using=self.using):
            ((pid, level),) = self.execute("session_state")
        self._is_read_committed = level == "read committed"
        self.is_pooled = is_pooled(connection, pid)
        keep_alive(connection)
        if not self.is_pooled:
            prepare(connection, WORK, self._name)
        self._prepared = connection.connection
