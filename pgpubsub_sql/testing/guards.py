"""Guards: what a listener must not do to the transaction of a test, in which it is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from pgpubsub_sql.django_internals import execute_wrapper, savepoints
from pgpubsub_sql.errors import ListenerError
from pgpubsub_sql.sql import render
from pgpubsub_sql.worker.connections import execute
from pgpubsub_sql.worker.isolation import IDLE
from pgpubsub_sql.worker.refusals import CONNECTION_CLOSED

_ENDS = re.compile(r"^\s*(COMMIT|END|ABORT|ROLLBACK)\b(?!\s+(\w+\s+)?TO\b)", re.IGNORECASE)
"""SQL that ends the transaction."""

ENDED = (
    "The listener has ended the transaction of its message by {}. Leave transactions to Django's "
    "atomic(), or do such work on a connection of its own."
)


DRIVERS_OWN = "the driver's own commit() or rollback()"
LEFT = "What this test, and its class, had written by then is in the database to stay, or is gone."


class Guard:
    """Makes a message fail whose listener closes the connection *using* or ends its transaction.

    A worker can then go on with another transaction. A test cannot: what it has written is gone.
    So both are refused, as far as Python can; a listener that catches the refusal fails all the
    same. *restore* is called if the driver has committed all the same.
    """

    def __init__(self, using: str, restore: Callable[[], object]) -> None:
        self._connection: Any = connections[using]
        self._restore = restore
        self._broken = ""
        """What the running listener has done."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Guard the connection in the block, if a transaction is open."""
        connection = self._connection
        if not connection.in_atomic_block:
            yield
            return
        connection.close = self._refuse_to_close
        try:
            with execute_wrapper(connection, self._execute):
                yield
        finally:
            del connection.close

    def check(self) -> None:
        """Raise :class:`ListenerError` if a listener that has just run has done it."""
        connection = self._connection
        if connection.in_atomic_block and connection.connection.info.transaction_status == IDLE:
            self._mend()
            self._broken = f"{ENDED.format(DRIVERS_OWN)} {LEFT}"
        if self._broken:
            broken, self._broken = self._broken, ""
            raise ListenerError(broken)

    def _refuse_to_close(self) -> None:
        self._broken = CONNECTION_CLOSED
        raise ListenerError(CONNECTION_CLOSED)

    def _execute(self, call: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if isinstance(sql, str) and (found := _ENDS.match(sql)):
            self._broken = ENDED.format(found[1].upper())
            raise ListenerError(self._broken)
        return call(sql, params, many, context)

    def _mend(self) -> None:
        """Begin the savepoints again that the test, and the message, will want to go back to."""
        self._restore()
        self._connection.connection.commit()
        for name in [*savepoints(self._connection), "pgpubsub"]:
            execute(self._connection, render("testing/savepoint", name=name))
