"""What keeps one message of a batch from its neighbours, within one transaction."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, cast

from django.db.backends.postgresql.psycopg_any import is_psycopg3

from pgpubsub_sql.errors import ListenerError
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.timelimit import TimeIsOver

logger = logging.getLogger("pgpubsub_sql.worker")

IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR = range(4)
"""libpq's numbers for what a connection is in, the same under both drivers. A lost one is in 4."""

CAUGHT = (Exception, SystemExit, CancelledError, TimeIsOver)
"""What ends a message, and no more than that."""


Guard = Callable[[Callable[[], object]], Callable[[], None]]


class Escaped(Exception):
    """A message did what cannot be undone by itself: its batch is rolled back, and done again."""


class Isolation:
    """Runs messages one after another in the open transaction of *connection*.

    Each is undone by itself if it fails. What this needs is a savepoint, and a savepoint costs more
    than many a message: it is issued when a message first asks for a cursor, and never for messages
    that do not. At the end of such a message its deferred constraints are checked.

    A cursor rather than a query: ``copy`` and ``callproc``, and what listeners do with the
    driver's own cursors, pass by Django's wrapper around queries. (One made of its class or with a
    ``cursor_factory`` passes by us, too: an error of its undoes the batch, but what it wrote in a
    message that fails later on stays.)

    What a savepoint does not undo raises :class:`Escaped`: a connection that was closed or lost, a
    transaction that was rolled back. One that a listener has *committed* cannot be undone at all:
    :attr:`is_over` tells that no further message should be run.
    """

    def __init__(self, connection: Any) -> None:
        self.savepoints = 0
        """Issued so far, by us and by listeners."""
        self.is_over = False
        """Whether a listener has committed the transaction that this was."""
        self._connection = connection
        self._raw = connection.connection
        self.transaction = ""
        """Id of the transaction that the connection is in, as far as we know."""
        self._channel = ""
        self._depth = len(connection.savepoint_ids), len(connection.atomic_blocks)
        self._stack = ExitStack()
        self._running = False
        self._queried = False
        """Whether the message that runs has asked for a cursor."""
        self._was_lost = False
        self.is_committing = False
        """Whether all went well, so that the transaction was about to be committed."""
        self.callbacks: list[Callable[[], object]] = []
        """What messages have given to ``on_commit()``, which Django forgets with its connection."""

    def __enter__(self) -> Isolation:
        self._cursor_factory = self._raw.cursor_factory
        self._raw.cursor_factory = self._make_cursor
        self._stack.enter_context(self._connection.execute_wrapper(self._execute))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._raw.cursor_factory = self._cursor_factory
        self._leave_blocks()
        self._was_lost = _is_broken(self._raw)
        self.is_committing = error is None

    @property
    def is_lost(self) -> bool:
        """Whether the connection was lost, through no fault of a listener."""
        return self._was_lost or (self.is_committing and bool(self._raw.closed))

    @property
    def using(self) -> str:
        """Alias of the database."""
        return str(self._connection.alias)

    def began(self, transaction: str, channel: str) -> None:
        """Remember the id of the transaction in which there is something to lose now, and whose."""
        self.transaction, self._channel = transaction, channel

    def run(self, call: Callable[[], None], guard: Guard) -> BaseException | None:
        """Run one message; return what it failed with, once what it did is undone.

        *guard* is put around each of its callbacks given to ``on_commit()``. A message that failed
        has none.
        """
        connection, first = self._connection, len(self._connection.run_on_commit)
        self._running, self._queried = True, False
        try:
            call()
            self.check()
            self._settle()
        except CAUGHT as error:
            self._running = False
            del connection.run_on_commit[first:]
            self._undo(error)
            return error
        finally:
            self._running = False
        self.guard_callbacks(guard, first)
        return None

    def guard_callbacks(self, guard: Guard, first: int = 0) -> None:
        """Put *guard* around the callbacks given to ``on_commit()``, beginning with the *first*."""
        callbacks = self._connection.run_on_commit
        callbacks[first:] = [
            (savepoints, guard(callback), robust)
            for savepoints, callback, robust in callbacks[first:]
        ]
        self.callbacks += [callback for _, callback, _ in callbacks[first:]]

    def check(self) -> None:
        """Raise :class:`ListenerError` if the message left the transaction in no state to go on."""
        connection, status = self._connection, self._status()
        if status == IDLE and self.transaction:
            self._find_out()
        elif status == IN_ERROR:
            raise ListenerError(
                "A query failed, and the listener went on. PostgreSQL does not: put what may fail "
                "into a transaction.atomic() block of its own."
            )
        elif status == ACTIVE:
            raise Escaped("A listener returned while its query was still running.")
        elif connection.closed_in_transaction:
            raise ListenerError("The listener closed the connection that its message was on.")
        elif connection.needs_rollback:
            raise ListenerError(
                "The transaction was marked for rollback: by set_rollback(True), or by an "
                "error that was caught outside its atomic(savepoint=False) block."
            )
        elif self._left_open():
            raise ListenerError("The listener entered an atomic block and did not leave it.")

    def verify(self) -> None:
        """Make sure that what is about to be committed is what the batch was taken in.

        Raises :class:`Escaped` if it was rolled back meanwhile, behind Django's back. If it was
        committed, what follows is in the transaction that there is now.
        """
        if self.transaction:
            ((current,),) = self._raw_execute("current_transaction")
            if current != self.transaction and not self.is_over:
                self._find_out()
            self.transaction = current

    def _make_cursor(self, *args: Any, **kwargs: Any) -> Any:
        self._begin()
        return self._cursor_factory(*args, **kwargs)

    def _execute(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        self._begin()
        if self._running and isinstance(sql, str) and sql.startswith("SAVEPOINT"):
            self.savepoints += 1
        return execute(sql, params, many, context)

    def _begin(self) -> None:
        if not self._running or self._queried or self._status() not in (IDLE, IN_TRANSACTION):
            return
        self._queried = True
        self.savepoints += 1
        self._raw_execute("savepoint")

    def _settle(self) -> None:
        if self._queried and not self.is_over:
            with self._connection.wrap_database_errors:
                self._raw_execute("settle")

    def _undo(self, error: BaseException) -> None:
        """Undo what the message that failed with *error* has done."""
        status = self._status()
        if self.is_over:
            pass
        elif status == IDLE:
            self._find_out()
        elif isinstance(error, Escaped) or status not in (IN_TRANSACTION, IN_ERROR):
            raise Escaped(str(error)) from error
        elif self._queried:
            self._roll_back(error)
        elif status == IN_ERROR:
            raise Escaped(str(error)) from error
        self._leave_blocks()
        self._connection.needs_rollback = False

    def _roll_back(self, error: BaseException) -> None:
        try:
            self._raw_execute("undo")
        except self._connection.Database.Error:
            if self._status() != IN_ERROR:
                raise Escaped(str(error)) from error
            # The savepoint is gone: the listener has ended the transaction, and begun another.
            self._raw.rollback()
            self._find_out(error)

    def _find_out(self, error: BaseException | None = None) -> None:
        """Learn what became of the batch's transaction, which a listener has ended.

        Raises :class:`Escaped` unless it was committed.
        """
        parameters = {"transaction": self.transaction}
        ((status,),) = self._raw_execute("transaction_status", parameters)
        if status != "committed":
            problem = ListenerError("A listener has rolled back the transaction of its batch.")
            problem.__cause__ = error
            raise Escaped(str(problem)) from problem
        self.end()

    def end(self) -> None:
        """Remember, and log, that a listener has committed the transaction."""
        self.is_over = True
        logger.error(
            "A listener of channel %s has committed the transaction of its batch with COMMIT. What "
            "had been done in it stays, even of a message that fails later on. Leave transactions "
            "to Django's atomic(), or do such work on a connection of its own.",
            self._channel,
            extra={"channel": self._channel},
        )

    def _raw_execute(self, name: str, parameters: object = None) -> Any:
        """Execute a query of ours past Django, whose wrappers are the listeners' business."""
        cursor = self._cursor_factory(self._raw)
        try:
            cursor.execute(query(name), parameters)
            return cursor.fetchall() if cursor.description else []
        finally:
            cursor.close()

    def _status(self) -> int:
        return int(self._raw.info.transaction_status)

    def _left_open(self) -> bool:
        depth = len(self._connection.savepoint_ids), len(self._connection.atomic_blocks)
        return depth != self._depth

    def _leave_blocks(self) -> None:
        """Forget blocks that a listener did not leave: Django would take ours for one of them."""
        savepoints, blocks = self._depth
        del self._connection.savepoint_ids[savepoints:]
        del self._connection.atomic_blocks[blocks:]


def _is_broken(raw: Any) -> bool:
    """Whether the driver has found its connection broken; one that was closed is not."""
    return cast(bool, raw.broken) if is_psycopg3 else bool(raw.closed == 2)
