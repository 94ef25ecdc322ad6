"""What keeps one message of a batch from its neighbours, within one transaction."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, cast

from django.db import Error

from pgpubsub_sql.django_internals import (
    atomic_state,
    count_callbacks,
    database_errors,
    drop_callbacks,
    drop_execute_wrappers,
    execute_wrapper,
    is_psycopg3,
    leave_blocks,
    replace_callbacks,
    unmark_rollback,
)
from pgpubsub_sql.errors import ListenerError
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.baseline import Baseline
from pgpubsub_sql.worker.connections import execute
from pgpubsub_sql.worker.timeouts import TimeoutInterrupt

logger = logging.getLogger("pgpubsub_sql.worker")

IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR = range(4)
"""libpq's numbers for what a connection is in, the same under both drivers. A lost one is in 4."""

CAUGHT = (Exception, SystemExit, CancelledError, TimeoutInterrupt)
"""What ends a message, and no more than that."""

FACTORIES = ("cursor_factory", "row_factory")
"""By which the drivers make cursors and rows. They are for all who use the connection."""


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
    message that fails later on stays.) Where a tool or a pool has wrapped the driver's connection
    so that cursors are made behind our backs, a failing message undoes its batch unless Django has
    queried for it.

    What a message has set of the session is undone along with it, or at its end.

    What a savepoint does not undo raises :class:`Escaped`: a connection that was closed or lost, a
    transaction that was rolled back. One that a listener has *committed* cannot be undone at all:
    :attr:`is_over` tells that no further message should be run.
    """

    def __init__(
        self, connection: Any, baseline: Baseline, channel: str, reclaim: Callable[..., None]
    ) -> None:
        self.savepoints = 0
        """Issued so far, by us and by listeners."""
        self.is_over = False
        """Whether a listener has committed the transaction that this was."""
        self.is_committing = False
        """Whether all went well, so that the transaction was about to be committed."""
        self.is_lost = False
        """Whether the connection was lost, through no fault of a listener."""
        self.is_touched = False
        """Whether code of others has used the connection since it was ours."""
        self.callbacks: list[Callable[[], None]] = []
        """What messages have given to ``on_commit()``, which Django forgets with its connection."""
        self.transaction = ""
        """Id of the transaction that the connection is in, as far as we know."""
        self._connection = connection
        self._baseline = baseline
        self._raw = baseline.raw
        self._channel = channel
        self._reclaim = reclaim
        self._running = False
        """Whether code of others runs."""
        self._queried = False
        """Whether a message that runs has all that it needs for using the connection."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notice who uses the connection, until what messages gave to ``on_commit()`` has run."""
        connection, raw = self._connection, self._raw
        self._cursor = raw.cursor()
        if self._baseline.shows_cursors:
            self._cursor_factory = raw.cursor_factory
            raw.cursor_factory = self._make_cursor
        self._factories = [(name, getattr(raw, name)) for name in FACTORIES if hasattr(raw, name)]
        try:
            with execute_wrapper(connection, self._execute) as self._wrappers:
                yield
        finally:
            if self._baseline.shows_cursors:
                raw.cursor_factory = self._cursor_factory
            self.is_lost = self.is_lost or (self.is_committing and bool(raw.closed))

    def __enter__(self) -> Isolation:
        self._atomic = atomic_state(self._connection)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave_blocks(self._connection, self._atomic)
        self.is_lost = _is_broken(self._raw)
        if self.is_lost and error is not None:
            self._connection.close()  # else Django connects anew to end the transaction
        self.is_committing = error is None

    @property
    def recovered_at(self) -> str:
        """Until the server recovers again, it knows what became of the transaction."""
        return self._baseline.recovered_at

    @property
    def using(self) -> str:
        """Alias of the database."""
        return str(self._connection.alias)

    def run(
        self, call: Callable[[], None], guard: Guard, *, is_prelude: bool = False
    ) -> BaseException | None:
        """Run one message; return what it failed with, once what it did is undone.

        *guard* is put around each of its callbacks given to ``on_commit()``. A message that failed
        has none. What a *prelude* has set of the session is for the message that is next.
        """
        connection, owes = self._connection, self.is_touched
        first = count_callbacks(connection)
        self._queried = False
        try:
            self._call(call)
            self.check()
            self._settle(is_prelude)
        except CAUGHT as error:
            drop_callbacks(connection, first)
            self._undo(error)
            self._restore(owes or self.is_over)
            return error
        self._guard_callbacks(guard, first)
        return None

    def run_alone(self, call: Callable[[], None], guard: Guard) -> None:
        """Run a message whose transaction this is; what it raises, or is to blame for, ends it."""
        self._run_alone(call)
        self.check()
        self._restore(self.is_touched or not self._baseline.shows_cursors)
        self._guard_callbacks(guard, 0)

    def _run_alone(self, call: Callable[[], None]) -> None:
        self._queried = True
        self._call(call)

    def _call(self, call: Callable[[], None]) -> None:
        """Let code of others run; then have cursors and rows made as before."""
        self._running = True
        try:
            call()
        finally:
            self._running = False
            for name, factory in self._factories:
                if getattr(self._raw, name) is not factory:
                    setattr(self._raw, name, factory)

    def _guard_callbacks(self, guard: Guard, first: int) -> None:
        """Put *guard* around the callbacks given to ``on_commit()``, beginning with the *first*."""
        self.callbacks += replace_callbacks(
            self._connection, first, lambda callback: partial(self._call_back, guard(callback))
        )

    def _call_back(self, callback: Callable[[], None]) -> None:
        self._run_alone(callback)
        is_touched = self.is_touched or not self._baseline.shows_cursors
        self._reclaim(self._channel, is_touched=is_touched)
        self.is_touched = False

    def check(self) -> None:
        """Raise :class:`ListenerError` if the message left the transaction in no state to go on."""
        state, status = atomic_state(self._connection), self._status()
        if status == IDLE and self.transaction:
            self._find_out()
        elif status == IN_ERROR:
            raise ListenerError(
                "A query failed, and the listener caught the error and went on. In PostgreSQL the "
                "whole transaction has failed then: put what may fail into a transaction.atomic() "
                "block of its own."
            )
        elif status == ACTIVE:
            raise Escaped(
                "The listener returned while a query of its own was still running on the "
                "connection of its message. Let it wait for the threads that use this connection."
            )
        elif state.is_closed:
            raise ListenerError(
                "The listener closed the connection that its message is handled on, which undoes "
                "what it has written. Leave this connection open."
            )
        elif state.needs_rollback:
            raise ListenerError(
                "The transaction was marked for rollback: by set_rollback(True), or by an "
                "error that was caught outside its atomic(savepoint=False) block. To undo a part "
                "of what a listener does, use atomic() without savepoint=False."
            )
        elif state != self._atomic:
            raise ListenerError(
                "The listener entered an atomic block and did not leave it. Use it in a with "
                "statement or as a decorator."
            )

    def verify(self) -> None:
        """Make sure that what is about to be committed is what the batch was taken in.

        Raises :class:`Escaped` if it was rolled back meanwhile, behind Django's back. If it was
        committed, what follows is in the transaction that there is now.
        """
        if self.transaction:
            ((current,),) = execute(self._connection, query("current_transaction"))
            if current != self.transaction and not self.is_over:
                self._find_out()
            self.transaction = current
            if not self._baseline.shows_cursors:
                self._restore(True)

    def _make_cursor(self, *args: Any, **kwargs: Any) -> Any:
        self._begin()
        return self._cursor_factory(*args, **kwargs)

    def _execute(self, call: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        self._begin()
        if self._running and isinstance(sql, str) and sql.startswith("SAVEPOINT"):
            self.savepoints += 1
        return call(sql, params, many, context)

    def _begin(self) -> None:
        """Note that the connection is used; a message of many then needs its savepoint."""
        if not self._running:
            return
        self.is_touched = True
        if not self._queried and self._status() in (IDLE, IN_TRANSACTION):
            self._queried = True
            self.savepoints += 1
            self._execute_ours(query("savepoint"))

    def _execute_ours(self, text: str) -> None:
        """Execute what every message that queries needs, by the one cursor that is kept for it."""
        with database_errors(self._connection):
            self._cursor.execute(text)

    def _settle(self, is_prelude: bool) -> None:
        """Check the constraints of a message, and let go of what it has set."""
        if self._queried and not self.is_over:
            baseline = self._baseline
            self._execute_ours(baseline.settle_prelude if is_prelude else baseline.settle)
            self.is_touched = is_prelude or baseline.is_reported_changed()
        if not is_prelude:
            self._restore(self.is_touched)

    def _restore(self, is_owed: bool) -> None:
        """Give the session back what was set before the message's savepoint, or without one."""
        if is_owed:
            execute(self._connection, self._baseline.restore)
        self._baseline.restore_tenant()
        drop_execute_wrappers(self._connection, self._wrappers)
        self.is_touched = False

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
        elif status == IN_ERROR or not self._baseline.shows_cursors:
            raise Escaped(str(error)) from error
        leave_blocks(self._connection, self._atomic)
        unmark_rollback(self._connection)

    def _roll_back(self, error: BaseException) -> None:
        try:
            execute(self._connection, query("undo"))
        except Error:
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
        ((status,),) = execute(self._connection, query("transaction_status"), parameters)
        if status != "committed":
            problem = ListenerError(
                "The listener rolled back the transaction of its message by ROLLBACK. To undo what "
                "it has done, raise an exception, or use transaction.atomic()."
            )
            problem.__cause__ = error
            raise Escaped(str(problem)) from problem
        self.end()

    def end(self) -> None:
        """Remember, and log, that a listener has committed the transaction."""
        self.is_over = True
        logger.error(
            "A listener of channel %s has committed the transaction of its batch by COMMIT. What "
            "it has written is there for good, even if its message fails later on. Leave "
            "transactions to Django's atomic(), or do such work on a connection of its own.",
            self._channel,
            extra={"channel": self._channel},
        )

    def _status(self) -> int:
        return int(self._raw.info.transaction_status)


def _is_broken(raw: Any) -> bool:
    """Whether the driver has found its connection broken; one that was closed is not."""
    return cast(bool, raw.broken) if is_psycopg3 else bool(raw.closed == 2)
