"""The session: Django's connection, on which the worker claims and listeners write."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connections, transaction
from django.db.utils import DatabaseError, Error, OperationalError

from pgpubsub_sql.django_internals import (
    atomic,
    close_if_old,
    count_blocks,
    ensure_connected,
    forget_queries,
    is_in_atomic_block,
    is_usable,
    leave_transaction,
)
from pgpubsub_sql.errors import WorkerDied
from pgpubsub_sql.sql import (
    INVALID_PARAMETER_VALUE,
    UNDEFINED_FUNCTION,
    query,
    render,
    sqlstate,
)
from pgpubsub_sql.sql.readiness import check_autocommit
from pgpubsub_sql.worker.baseline import Baseline
from pgpubsub_sql.worker.connections import WORK, execute, hang_up, is_pooled, keep_alive, prepare
from pgpubsub_sql.worker.isolation import Isolation
from pgpubsub_sql.worker.outcomes import Discarded, Failure, changes, describe
from pgpubsub_sql.worker.planned import Planned, Plans, PlansGone

logger = logging.getLogger("pgpubsub_sql.worker")

UNDECIDED_SECONDS = 0.02
"""Time between two questions about a transaction that has not ended yet."""


class Session:
    """Django's connection for the alias *using*, restored after listeners have used it."""

    def __init__(self, using: str, *, name: str = "") -> None:
        self.using = using
        self.is_pooled = False
        """Whether there is a pooler in between. The session may then be another client's after each
        transaction, so settings must not outlive one."""
        self._name = name
        self._baseline: Baseline | None = None
        """Baseline of the driver's connection that was prepared."""
        self._depth = 0
        """Number of atomic blocks around the worker's own; not zero in tests only."""
        self._is_read_committed = True
        self._plans = Plans(is_possible=False)
        """Those of the driver's connection."""

    @property
    def connection(self) -> Any:
        """Django's connection."""
        return connections[self.using]

    def execute(self, name: str, parameters: object = None, *, text: str | None = None) -> Any:
        """Execute the query *name*, or its rendered *text*; return the rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(text or query(name), parameters)
            return cursor.fetchall() if cursor.description else []

    def execute_planned(self, planned: Planned, parameters: Mapping[str, Any]) -> Any:
        """Execute *planned*, without planning it if this session can; return the rows.

        Raises :class:`PlansGone` if this session could, and no longer can, and the transaction has
        failed by that.
        """
        is_prepared = self._baseline and self._baseline.raw is self.connection.connection
        text = self._plans.text(planned) if is_prepared else planned.text
        try:
            return self.execute(planned.name, parameters, text=text)
        except DatabaseError as error:
            if text is planned.text or sqlstate(error) != UNDEFINED_FUNCTION:
                raise
            self._plans.forget()
            if is_in_atomic_block(self.connection):
                raise PlansGone from error
            return self.execute(planned.name, parameters, text=planned.text)

    @contextmanager
    def isolation(self, *, durable: bool = False, channel: str = "") -> Iterator[Isolation]:
        """Open a READ COMMITTED transaction in which each message of *channel* is isolated.

        With *durable*, listeners may open durable blocks in it, which end with it.
        """
        baseline = self.prepare()
        block = atomic(self.using, admits_durable=durable)
        isolation = Isolation(self.connection, baseline, channel, self.reclaim)
        is_undone = True
        try:
            with isolation.watching(), block:
                if not (self._is_read_committed or self._depth):
                    self.execute("read_committed")
                if self.is_pooled:
                    self._prepare_locally()
                with isolation:
                    yield isolation
            is_undone = False
        finally:
            if is_undone or isolation.is_touched:
                self.reclaim(channel)

    def reclaim(self, channel: str = "", *, is_touched: bool = True) -> None:
        """Restore the session after other code has run, outside of any transaction.

        If that takes more than restoring settings, log it and have a new connection opened.
        """
        connection, baseline = self.connection, self._baseline
        if connection.connection is None or baseline is None:
            return
        baseline.restore_tenant()
        is_same = connection.connection is baseline.raw and not baseline.raw.closed
        leftover = baseline.leftover(self._depth) if is_same else ""
        if is_same and not leftover:
            with suppress(Error):
                if is_touched:
                    execute(connection, baseline.restore)
                return
        if leftover:
            self._log_leftover(leftover, channel)
        if not self._depth:
            self._abandon()

    def _log_leftover(self, leftover: str, channel: str) -> None:
        logger.error(
            "Code that was called %s left %s on the connection %r. What was not committed is "
            "rolled back, and the worker goes on with a new connection. Look for it in %s.",
            f"for channel {channel}" if channel else "between two batches",
            leftover,
            self.using,
            "the listeners, their on_commit() callbacks and receivers of signals"
            if channel
            else "receivers of the worker's signals",
            extra={"channel": channel},
        )

    def record_failure(self, notification_id: int, attempts: int, outcome: Failure) -> None:
        """Record the failure of a notification that is not in flight.

        This has no effect if it has been in flight since it had failed *attempts* times. If another
        worker has meanwhile recorded that its worker died, this replaces that record.
        """
        values = untouched(notification_id, attempts)
        if isinstance(outcome, Discarded):
            self.execute("delete_discarded", values)
        else:
            unchanged = {"attempts": attempts, "unreadable": None, "delay": None}
            self.execute("record_failure", values | unchanged | changes(attempts, outcome))

    def was_committed(self, transaction: str, recovered_at: str) -> bool:
        """Return whether a transaction was committed whose end this worker has not seen.

        If the server has recovered from a crash since *recovered_at*, the transaction counts as
        rolled back, because its id may have been given to another.

        A backend that is still in the transaction has lost its client, and is ended. Raises
        :class:`OperationalError` if the transaction has not ended after a second.
        """
        if self._depth:  # it was a savepoint of a transaction that goes on
            return False
        deadline = time.monotonic() + 1
        while (status := self._status(transaction, recovered_at)) == "in progress":
            if deadline < time.monotonic():
                raise OperationalError(
                    f"the server has not ended the transaction {transaction} yet, in which a batch "
                    "was handled, and the worker has to know whether it was committed"
                )
            time.sleep(UNDECIDED_SECONDS)
        return status == "committed"

    def _status(self, transaction: str, recovered_at: str) -> str | None:
        parameters = {"transaction": transaction, "recovered_at": recovered_at}
        try:
            rows = self.execute("end_transaction", parameters)
        except DatabaseError as error:
            if sqlstate(error) != INVALID_PARAMETER_VALUE:
                raise
            return None  # unknown to a standby that was promoted
        return str(rows[0][0]) if rows else None

    def drop_if_broken(self) -> None:
        """Close the connection unless it still works, so that the next query opens a new one."""
        connection = self.connection
        if not is_usable(connection):
            connection.close()

    def tidy_up(self) -> None:
        """Forget logged queries and close old connections, as Django does around a request."""
        for connection in connections.all(initialized_only=True):
            forget_queries(connection)
            if connection.alias != self.using and not is_in_atomic_block(connection):
                close_if_old(connection)

    def _abandon(self) -> None:
        """Close the connection for good, in whatever state it is, even if a pool has lent it."""
        if not self._depth:
            leave_transaction(self.connection)
        hang_up(self.connection)

    def prepare(self) -> Baseline:
        """Prepare the connection unless that is done; return its baseline.

        Raises :class:`NotReady` if Django is configured never to commit on it.
        """
        connection, baseline = self.connection, self._baseline
        ensure_connected(connection)
        forget_queries(connection)
        self._depth = count_blocks(connection)
        if baseline is None or baseline.raw is not connection.connection:
            baseline = self._baseline = self._new()
        elif not self._depth and not baseline.is_idle():
            self.reclaim()
            return self.prepare()
        baseline.refresh(self.execute)
        if not self._depth:
            self._plans.make(self.using, self.execute)
        return baseline

    def _new(self) -> Baseline:
        check_autocommit(self.connection)
        keep_alive(self.connection)
        with transaction.atomic(using=self.using):
            ((pid, level, recovered_at),) = self.execute("session_state")
            self._is_read_committed = level == "read committed"
            self.is_pooled = is_pooled(self.connection, pid)
            if self.is_pooled:
                self._prepare_locally()
            else:
                prepare(self.connection, WORK, self._name)
            self._plans = Plans(is_possible=not self.is_pooled)
            return Baseline(
                self.connection,
                self.execute,
                recovered_at=recovered_at,
                is_local=self.is_pooled,
            )

    def _prepare_locally(self) -> None:
        self.execute("prepare_session", text=render("queries/prepare_session", local="true"))


def untouched(notification_id: int, attempts: int) -> dict[str, Any]:
    """Return what identifies a notification that no other worker has had in flight since."""
    died = describe(WorkerDied()).text
    return {"id": notification_id, "attempts_before": attempts, "died": died}
