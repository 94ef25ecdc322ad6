"""A batch: the messages of one subscription that are claimed and handled in one transaction."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.attempts import Attempt, new_context
from pgpubsub_sql.worker.dispatch import Dispatcher
from pgpubsub_sql.worker.isolation import Isolation
from pgpubsub_sql.worker.outcomes import (
    Claimed,
    Discarded,
    Done,
    Expired,
    Failure,
    Outcome,
    Park,
    Postpone,
    Release,
    describe,
    postpone,
    row_to_put_back,
)
from pgpubsub_sql.worker.reporting import guarded, log_failure, report_start

BATCH_SECONDS = 0.05
"""A batch ends after about this time, so that its transaction stays short."""
AIM = 0.8
"""Batches grow until they take this share of the time, because what they do not reach has to be put
back."""
BATCH_SAVEPOINTS = 60
"""A batch ends after this many savepoints. Beyond 64 subtransactions PostgreSQL keeps track of them
on disk, which slows down every session that meets one of their rows."""
FIRST_BATCH = 10
"""Size of a channel's first batch. It bounds what a slow listener keeps from other workers, and the
memory that large messages take, before anything is known of either."""
LARGEST_BATCH = 2000
"""A batch takes almost a millisecond besides its messages. The quickest listeners handle as many in
half of :data:`BATCH_SECONDS`."""
QUICKEST_GROWTH = 10
"""A batch is at most this many times as large as the one before."""

SLOW_SECONDS = 0.01
"""Shortest time that is kept of a message: noting it has its whole batch written again."""

DONE = Done()
FINAL = Done | Discarded | Expired | Park
"""Outcomes after which the next message with the same key may be handled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """What a batch may use before it ends."""

    messages: int
    until: float
    """By the monotonic clock."""
    savepoints: int = BATCH_SAVEPOINTS
    rest: float = 0.0
    """Seconds for which to leave the channel alone if nothing succeeds."""
    charges_one: bool = False
    """Whether to charge one message even then."""


class BatchSizing:
    """The size of a channel's next batch, which grows up to *largest* while handling is quick."""

    def __init__(self, largest: int | None) -> None:
        self._largest = LARGEST_BATCH if largest is None else largest
        self._size = min(FIRST_BATCH, self._largest)
        self._started = 0.0

    def start(self) -> BatchLimits:
        """Begin a batch; return its limits."""
        self._started = time.monotonic()
        return BatchLimits(messages=self._size, until=self._started + BATCH_SECONDS)

    def end(self, batch: Batch) -> None:
        """Learn from a batch how many messages can be handled."""
        claimed = len(batch.claimed)
        handled = claimed - batch.count(Release)
        if handled < claimed:
            self._size = max(1, handled)
        elif 2 * handled > self._size:  # ordered claims with few messages a key are never full
            room = 1 / max(self._used(batch.isolation.savepoints), 1 / QUICKEST_GROWTH)
            self._size = min(max(self._size, int(self._size * room)), self._largest)

    def _used(self, savepoints: int) -> float:
        """Return the share of its time or its savepoints that the batch has used."""
        elapsed = time.monotonic() - self._started
        return max(elapsed / (AIM * BATCH_SECONDS), savepoints / BATCH_SAVEPOINTS)


class Batch:
    """Claimed messages of one subscription, and what becomes of each.

    A batch ends early, and releases the messages it has not reached, when it has reached one of its
    *limits*, when *is_stopping* says so, when a listener has committed the transaction, and after a
    message that was postponed: what was in its way may wait for what this batch has locked.

    It calls the listeners once for each message; :class:`ListBatch` does that for many at once.

    If *is_observed*, every message has an attempt of its own, which is kept. Otherwise only those
    have that somebody will be told of. The id of each message is assigned to *in_flight*.
    """

    rest = 0.0
    """Seconds for which to leave the channel alone after this batch."""

    def __init__(
        self,
        claimed: Sequence[Claimed],
        isolation: Isolation,
        *,
        channel: type[BaseChannel],
        subscription: str,
        dispatch: Dispatcher,
        is_ordered: bool,
        limits: BatchLimits,
        is_stopping: Callable[[], bool],
        is_observed: bool,
        is_kept: bool,
        in_flight: memoryview,
    ) -> None:
        self.claimed = claimed
        self.isolation = isolation
        self.outcomes: list[Outcome] = []
        """What became of the first messages of *claimed*, as far as they were reached."""
        self.durations: dict[int, float] = {}
        """Seconds that slow messages took, by id, if they are kept."""
        self.attempts: list[Attempt] = []
        """Attempts that have ended and that somebody will be told of."""
        self._attempt: Attempt | None = None
        """The attempt under way."""
        self._spare: Attempt | None = None
        """An attempt that has ended and that nobody has seen, which can be used again."""
        self._keeps_all = len(claimed) == 1 or is_observed
        """Whether to keep attempts that succeed; the only one is needed if COMMIT fails."""
        self._is_kept = is_kept
        self._context = new_context()
        """What the contexts of all attempts are copies of."""
        self._using = isolation.using
        self._channel = channel
        self._lane = Lane(channel.postgres_name(), subscription)
        self._dispatch = dispatch
        self._in_flight = in_flight
        self._is_ordered = is_ordered
        self._limits = limits
        self._is_stopping = is_stopping
        self._has_postponed = False
        self._blocked: set[str] = set()
        """Keys with a message that must be handled before any other."""

    def handle(self) -> None:
        """Handle the messages in order, until the batch has to end."""
        started = time.perf_counter()
        try:
            self._handle_all()
        finally:
            self._dispatch.ran(self._dispatched(), time.perf_counter() - started)

    def _dispatched(self) -> int:
        """Return for how many messages a listener was called."""
        ended = len(self.outcomes) - self.count(Release) - self.count(Expired)
        unread = sum(one.error is not None and not one.listener for one in self.attempts)
        is_running = self._attempt is not None and bool(self._attempt.listener)
        return ended - unread + is_running

    def _handle_all(self) -> None:
        for one in self.claimed:
            if self.outcomes and self._has_to_end():
                break
            outcome = self._handle(one)
            self.outcomes.append(outcome)
            if outcome is not DONE and not isinstance(outcome, FINAL):
                self._hold_back(one)
        self._release_rest()

    def _hold_back(self, one: Claimed) -> None:
        """Keep later messages of the same key from being handled."""
        if self._is_ordered and one.key is not None:
            self._blocked.add(one.key)

    def abort(self, error: BaseException, *, is_innocent: bool) -> None:
        """End the batch with *error*, the failure of the message that was being handled."""
        if self._attempt is not None:
            outcome = postpone(describe(error)) if is_innocent else None
            self.attempts.append(self._attempt)
            self.outcomes.append(self._fail(self._attempt, error, outcome))
        self._release_rest()

    def first_attempt(self) -> Attempt:
        """Return the attempt to handle the first message, even if it never began."""
        attempt = self.attempts[0] if self.attempts else self._attempt
        return attempt or self._attempt_at(self.claimed[0])

    def rows_to_put_back(self) -> list[dict[str, Any]]:
        """Return the values for the query ``put_back``."""
        found = zip(self.claimed, self.outcomes, strict=True)
        rows = [row_to_put_back(*one) for one in found if one[1] is not DONE]
        return [row for row in rows if row is not None]

    def count(self, kind: type[Outcome]) -> int:
        """Return how many messages had an outcome of this *kind*."""
        others = [one for one in self.outcomes if one is not DONE]  # nearly always none
        done = len(self.outcomes) - len(others)
        return done * (kind is Done) + sum(type(one) is kind for one in others)

    def first(self, kind: type[Outcome]) -> Claimed:
        """Return the first message that had an outcome of this *kind*."""
        found = zip(self.claimed, self.outcomes, strict=True)
        return next(one for one, outcome in found if type(outcome) is kind)

    def _has_to_end(self) -> bool:
        limits, isolation = self._limits, self.isolation
        return (
            self._has_postponed
            or isolation.is_committed
            or self._is_stopping()
            or time.monotonic() >= limits.until
            or isolation.savepoints >= limits.savepoints
        )

    def _release_rest(self) -> None:
        self.outcomes += [Release()] * (len(self.claimed) - len(self.outcomes))

    def _handle(self, one: Claimed) -> Outcome:
        if one.key in self._blocked:
            return Release()
        if one.unusual is not None and one.rest.expired:
            return Expired()
        self._in_flight[0] = one.id
        attempt = self._attempt = self._attempt_at(one)
        report_start(attempt, self.isolation)
        started = time.perf_counter()
        error = self.isolation.run(
            attempt.context.run, self._guard, self._dispatch.call, one.payload, attempt
        )
        self._attempt = None
        if self._is_kept:
            self._note_duration(one, time.perf_counter() - started)
        if error is None and not self._keeps_all:
            return DONE
        attempt.duration = time.perf_counter() - started
        self._spare = None
        self.attempts.append(attempt)
        return DONE if error is None else self._fail(attempt, error)

    def _note_duration(self, one: Claimed, seconds: float) -> None:
        if seconds >= SLOW_SECONDS:
            self.durations[one.id] = seconds

    def _guard(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Wrap a callback given to ``on_commit()``, which needs the attempt under way."""
        self._spare = None
        return guarded(cast(Attempt, self._attempt))(callback)

    def _attempt_at(self, one: Claimed) -> Attempt:
        spare = self._spare
        if spare is None or one.unusual is not None:
            spare = Attempt.of_stored(self._channel, self._lane, one, self._using)
            self._spare = None if one.unusual is not None else spare
        else:
            spare.id, spare.created_at, spare.listener = one.id, one.created_at, ""
        spare.context = self._context.copy()
        return spare

    def _fail(
        self, attempt: Attempt, error: BaseException, outcome: Failure | None = None
    ) -> Failure:
        outcome = attempt.fail(error, outcome)
        log_failure(attempt)
        self._has_postponed = self._has_postponed or isinstance(outcome, Postpone)
        return outcome
