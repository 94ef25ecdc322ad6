"""Isolation: keeps the messages of a batch apart, within one transaction."""

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
    is_unchanged,
    leave_blocks,
    replace_callbacks,
    unmark_rollback,
)
from pgpubsub_sql.errors import ListenerError
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.baseline import Baseline
from pgpubsub_sql.worker.connections import execute
from pgpubsub_sql.worker.cursors import watched
from pgpubsub_sql.worker.refusals import (
    BLOCK_LEFT_OPEN,
    CONNECTION_CLOSED,
    MARKED_FOR_ROLLBACK,
    QUERY_FAILED,
    QUERY_RUNNING,
    ROLLED_BACK,
    SETTINGS_CHANGED,
)
from pgpubsub_sql.worker.statements import changes_no_setting
from pgpubsub_sql.worker.timeouts import TimeoutInterrupt
from pgpubsub_sql.worker.trust import Trust

logger = logging.getLogger("pgpubsub_sql.worker")

IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR = range(4)
"""libpq's transaction status, the same with both drivers; 4 is a lost connection."""

MESSAGE_ERRORS = (Exception, SystemExit, CancelledError, TimeoutInterrupt)
"""What a message may fail with; anything else ends the worker."""

FACTORIES = ("cursor_factory", "row_factory")
"""Attributes with which the drivers make cursors and rows, for all users of a connection."""

Guard = Callable[[Callable[[], object]], Callable[[], None]]


class Escaped(Exception):
    """A message cannot be undone by itself: its batch is rolled back and handled again."""


class Isolation:
    """Runs messages one after another in the open transaction of *connection*.

    A failed message is undone on its own. That takes a savepoint, which often costs more than the
    message itself. It is therefore issued with a message's first statement, in the same round trip
    if that is safe, and never for messages that do not query. At the end of a message that has
    queried, its deferred constraints are checked, and the session settings that it may have changed
    are restored.

    These are the invariants; ``docs/design/isolation.md`` has the reasons:

    - When a message begins, nothing that an earlier one did can fail any more, and the settings are
      those of the connection. :class:`Trust` rolls back the batch if it was wrong about that.
    - Before its first statement is executed, it has a savepoint.
    - What has succeeded is undone with its whole batch only.

    Statements are seen by the class of the cursors, because ``copy``, ``callproc`` and the driver's
    own cursors bypass Django's wrapper around queries. A cursor that a listener makes from its
    class, or with a ``cursor_factory``, bypasses this, too: an error of such a cursor rolls back
    the batch, but what it wrote for a message that fails later is kept. Where a tool or a pool has
    wrapped the driver's connection so that cursors are made unseen, a failing message rolls back
    its batch unless it has queried through Django.

    Whatever a savepoint does not undo raises :class:`Escaped`: a connection that was closed or
    lost, a transaction that was rolled back. A transaction that a listener has *committed* cannot
    be undone at all. Then :attr:`is_committed` is true, and no further message should run.
    """

    def __init__(
        self, connection: Any, baseline: Baseline, channel: str, reclaim: Callable[..., None]
    ) -> None:
        self.savepoints = 0
        """Number of savepoints issued, by us and by listeners."""
        self.is_committed = False
        """Whether a listener has committed the transaction."""
        self.is_committing = False
        """Whether the block ended without an error, so that Django was about to commit."""
        self.is_lost = False
        """Whether the connection was lost, through no fault of a listener."""
        self.is_touched = False
        """Whether other code has used the connection since the session was last restored."""
        self.is_running = False
        """Whether other code is running."""
        self.callbacks: list[Callable[[], None]] = []
        """Callbacks that messages gave to ``on_commit()``: Django forgets them if it loses the
        connection."""
        self.transaction = ""
        """Id of the current transaction, as far as it is known."""
        self._connection = connection
        self._baseline = baseline
        self._raw = baseline.raw
        self._watched: type[Any] | None = None
        """Class of the cursors that are made for other code; None if they cannot be watched."""
        self._channel = channel
        self._reclaim = reclaim
        self._has_savepoint = False
        """Whether the running message has its savepoint, or needs none."""
        self._is_doubtful = False
        """Whether that savepoint was to be issued together with a statement that failed."""
        self._may_have_set = False
        """Whether the running message may have changed settings."""
        self._trust = Trust(baseline, self._execute_ours)
        self._breach: Escaped | None = None
        """Says that a message was trusted that should not have been."""
        self._messages = 0
        """Number of messages that have run."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notice any use of the connection, until the callbacks of ``on_commit()`` have run."""
        connection, raw = self._connection, self._raw
        self._cursor = raw.cursor()
        if self._baseline.shows_cursors:
            self._cursor_factory = raw.cursor_factory
            if isinstance(self._cursor_factory, type):
                self._watched = watched(self._cursor_factory)
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
            self._connection.close()  # or Django would connect again to end the transaction
        self.is_committing = error is None

    @property
    def recovered_at(self) -> str:
        """When the server last recovered. Until it does again, it knows past transactions."""
        return self._baseline.recovered_at

    @property
    def blocks(self) -> int:
        """Number of atomic blocks that a message begins in."""
        return self._atomic.blocks

    @property
    def using(self) -> str:
        """Alias of the database."""
        return str(self._connection.alias)

    def run(
        self,
        call: Callable[..., object],
        guard: Guard,
        *arguments: Any,
        is_prelude: bool = False,
    ) -> BaseException | None:
        """Run one message by ``call(*arguments)``; return what it failed with, after undoing it.

        *guard* wraps each callback that the message gave to ``on_commit()``. The callbacks of a
        failed message are dropped. Settings changed in a *prelude* last for the next message.
        """
        connection, owes = self._connection, self.is_touched
        first = count_callbacks(connection)
        self._has_savepoint = self._is_doubtful = False
        self._may_have_set = owes
        self._messages += not is_prelude
        try:
            self._call(call, *arguments)
            if self._is_untouched(first):
                return None
            self.check()
            self._settle(is_prelude)
        except MESSAGE_ERRORS as error:
            drop_callbacks(connection, first)
            self._undo(error)
            self._restore(owes or self.is_committed)
            return error
        if count_callbacks(connection) > first:
            self._guard_callbacks(guard, first)
        return None

    def run_alone(self, call: Callable[..., object], guard: Guard, *arguments: Any) -> bool:
        """Run the only message of this transaction; let its errors end the transaction.

        Return whether it has not used the connection, so that the transaction may be another's.
        """
        first = count_callbacks(self._connection)  # not zero within the transaction of a test
        self._run_alone(call, *arguments)
        if self._is_unused(first):
            return True
        self.check()
        self._restore(self.is_touched or not self._baseline.shows_cursors)
        self._guard_callbacks(guard, first)
        return False

    def _is_unused(self, callbacks: int) -> bool:
        """Return whether the connection is as it was, with so many *callbacks*."""
        raw = self._raw
        return self._is_untouched(callbacks) and not raw.closed and not raw.autocommit

    def _is_untouched(self, callbacks: int) -> bool:
        """Return whether no cursor was made, and nothing left, such as one of so many *callbacks*.

        The driver need not tell the state of the transaction then: :meth:`verify` finds out if it
        was ended without a cursor.
        """
        baseline = self._baseline
        return (
            not self.is_touched
            and baseline.shows_cursors
            and getattr(self._connection, "tenant", None) is baseline.tenant
            and is_unchanged(self._connection, self._atomic, callbacks, self._wrappers)
        )

    def _run_alone(self, call: Callable[..., object], *arguments: Any) -> None:
        self._has_savepoint = True  # it needs none
        self._call(call, *arguments)

    def _call(self, call: Callable[..., object], *arguments: Any) -> None:
        """Run other code; then restore how cursors and rows are made."""
        self.is_running = True
        try:
            call(*arguments)
        finally:
            self.is_running = False
            for name, factory in self._factories:
                if getattr(self._raw, name) is not factory:
                    setattr(self._raw, name, factory)

    def _guard_callbacks(self, guard: Guard, first: int) -> None:
        """Wrap the callbacks that were given to ``on_commit()``, from the *first* on."""
        self.callbacks += replace_callbacks(
            self._connection, first, lambda callback: partial(self._call_back, guard(callback))
        )

    def _call_back(self, callback: Callable[[], None]) -> None:
        self._run_alone(callback)
        is_touched = self.is_touched or not self._baseline.shows_cursors
        self._reclaim(self._channel, is_touched=is_touched)
        self.is_touched = False

    def check(self) -> None:
        """Raise :class:`ListenerError` if the message left the transaction unusable."""
        if self._breach is not None:
            raise self._breach
        status = self._status()
        if status == IDLE and self.transaction:
            self._learn_end()
        elif status == IN_ERROR:
            raise ListenerError(QUERY_FAILED)
        elif status == ACTIVE:
            raise Escaped(QUERY_RUNNING)
        elif atomic_state(self._connection) != self._atomic:
            raise ListenerError(self._refusal())

    def _refusal(self) -> str:
        """Say which forbidden thing the message has done to the atomic blocks."""
        state = atomic_state(self._connection)
        if state.is_closed:
            return CONNECTION_CLOSED
        return MARKED_FOR_ROLLBACK if state.needs_rollback else BLOCK_LEFT_OPEN

    def verify(self) -> None:
        """Check that the transaction about to be committed is the one that claimed the batch.

        Raises :class:`Escaped` if that one was rolled back without Django's knowledge, or if a
        message has changed settings that was trusted not to. If the transaction was committed, the
        rest of the batch is settled in the current one.
        """
        if self.transaction:
            current = self._verify_trust()
            if current != self.transaction and not self.is_committed:
                self._learn_end()
            self.transaction = current
            if self._breach is not None:
                raise self._breach
            if not self._baseline.shows_cursors:
                self._restore(True)

    def _verify_trust(self) -> str:
        """Find out whether messages have rightly been trusted; return the transaction's id."""
        current, changed = self._trust.verify()
        if changed and self._messages > 1 and not self.is_committed:  # a neighbour may have seen it
            self._breach = Escaped(SETTINGS_CHANGED.format(", ".join(changed)))
        elif changed:
            self._restore(True)
        return current

    def _make_cursor(self, *args: Any, **kwargs: Any) -> Any:
        if self._watched is None:
            if self.is_running:
                self.begin()
            return self._cursor_factory(*args, **kwargs)
        cursor = self._watched(*args, **kwargs)
        cursor.watcher = self
        return cursor

    def _execute(self, call: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if self.is_running:
            cursor = getattr(context["cursor"], "cursor", None)
            if getattr(cursor, "watcher", None) is not self:
                self.begin()
            if isinstance(sql, str) and sql.startswith("SAVEPOINT"):
                self.savepoints += 1
        return call(sql, params, many, context)

    def begin(self, text: str | None = None, *, is_able: bool = False) -> bool:
        """Note that the connection is used; issue the message's savepoint if it has none.

        This is the method of :class:`~pgpubsub_sql.worker.cursors.Watcher`.
        """
        self.is_touched = True
        if text is None or not changes_no_setting(text):
            self._may_have_set = True
            if self._trust.is_given and self._status() in (IDLE, IN_TRANSACTION):
                self._verify_trust()
        status = self._status() if not self._has_savepoint else ACTIVE
        if status not in (IDLE, IN_TRANSACTION):
            return False
        self._has_savepoint = True
        self.savepoints += 1
        rides = is_able and status == IN_TRANSACTION
        if not rides:
            self._execute_ours(query("savepoint"))
        return rides

    def note_unsent(self) -> None:
        """Note that a ride has failed; if the driver has refused it, the server knows nothing."""
        self._has_savepoint = self._is_doubtful = self._status() != IN_TRANSACTION

    def _execute_ours(self, text: str, parameters: object = None) -> list[Any]:
        """Execute what each querying message needs, with the cursor that is kept for it."""
        with database_errors(self._connection):
            self._cursor.execute(text, parameters)
            return list(self._cursor.fetchall()) if parameters else []

    def _settle(self, is_prelude: bool) -> None:
        """Check the message's constraints, and restore the settings that it may have changed."""
        if self._has_savepoint and not self.is_committed:
            baseline = self._baseline
            if is_prelude or (not self._may_have_set and self._trust.give()):
                self._execute_ours(baseline.check)
            else:
                if self._trust.is_given:
                    self._verify_trust()
                self._execute_ours(baseline.settle)
            self.is_touched = is_prelude or baseline.is_reported_changed()
        if not is_prelude:
            self._restore(self.is_touched)

    def _restore(self, is_owed: bool) -> None:
        """Restore settings changed before the message's savepoint, or without one."""
        if is_owed:
            if self._trust.is_given:
                self._verify_trust()
            execute(self._connection, self._baseline.restore)
        self._baseline.restore_tenant()
        drop_execute_wrappers(self._connection, self._wrappers)
        self.is_touched = False

    def _undo(self, error: BaseException) -> None:
        """Undo the message that failed with *error*, or raise :class:`Escaped`."""
        status = self._status()
        if self._breach is not None:
            raise self._breach from error
        if self.is_committed:
            pass
        elif status == IDLE:
            self._learn_end()
        elif isinstance(error, Escaped) or status not in (IN_TRANSACTION, IN_ERROR):
            raise Escaped(str(error)) from error
        elif self._has_savepoint:
            self._roll_back(error)
        elif status == IN_ERROR or not self._baseline.shows_cursors:
            raise Escaped(str(error)) from error
        leave_blocks(self._connection, self._atomic)
        unmark_rollback(self._connection)

    def _roll_back(self, error: BaseException) -> None:
        try:
            execute(self._connection, query("undo"))
        except Error:
            if self._status() != IN_ERROR or self._is_doubtful:
                raise Escaped(str(error)) from error
            # The savepoint is gone: the listener has ended the transaction and begun another.
            self._raw.rollback()
            self._learn_end(error)

    def _learn_end(self, error: BaseException | None = None) -> None:
        """Ask the server how the transaction ended, which a listener has ended.

        Raises :class:`Escaped` unless it was committed.
        """
        parameters = {"transaction": self.transaction}
        ((status,),) = execute(self._connection, query("transaction_status"), parameters)
        if status != "committed":
            problem = ListenerError(ROLLED_BACK)
            problem.__cause__ = error
            raise Escaped(str(problem)) from problem
        self.note_commit()

    def note_commit(self) -> None:
        """Note and log that a listener has committed the transaction."""
        self.is_committed = True
        logger.error(
            "A listener of channel %s has committed the transaction of its batch by COMMIT. What "
            "it has written is kept, even if its message fails later on. Leave "
            "transactions to Django's atomic(), or do such work on a connection of its own.",
            self._channel,
            extra={"channel": self._channel},
        )

    def _status(self) -> int:
        return int(self._raw.info.transaction_status)


def _is_broken(raw: Any) -> bool:
    """Return whether the driver has found the connection broken, rather than closed."""
    return cast(bool, raw.broken) if is_psycopg3 else bool(raw.closed == 2)
