"""What happens to the messages of one batch, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pgpubsub_sql.channels import BaseChannel
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
    after_failure,
    describe,
    postpone,
    row_to_put_back,
)
from pgpubsub_sql.worker.reporting import Attempt, attempt_at, guarded, log_failure, report_start

BATCH_SECONDS = 0.05
"""A batch ends after about this long, so that its transaction stays short."""
BATCH_SAVEPOINTS = 60
"""A batch ends after so many savepoints. Beyond 64 subtransactions PostgreSQL keeps track of them
on disk, and every session that meets one of their rows gets slow."""
FIRST_BATCH = 10
"""What a slow listener keeps from other workers while it has its first message, and what large
messages take of memory before anything is known of them."""
LARGEST_BATCH = 500
QUICKEST_GROWTH = 10
"""By how much a batch may be larger than the one before, however quick that was."""

DONE = Done()
FINAL = Done | Discarded | Expired | Park
"""What lets the next message of the same key go ahead."""


class Batch:
    """What was taken of one channel in one transaction, and what becomes of each.

    It ends early, and what was not reached is given back: when *is_used_up* says so, and after a
    message that was in somebody's way.
    """

    def __init__(
        self,
        taken: Sequence[Claimed],
        isolation: Isolation,
        *,
        channel: type[BaseChannel],
        dispatch: Dispatcher,
        is_ordered: bool,
        is_used_up: Callable[[], bool],
    ) -> None:
        self.taken = taken
        self.outcomes: list[Outcome] = []
        """What became of the first so many of *taken*."""
        self.handled: list[Attempt] = []
        """Those of them that listeners were called with, or should have been."""
        self._isolation = isolation
        self._using = isolation.using
        self._channel = channel
        self._dispatch = dispatch
        self._is_ordered = is_ordered
        self._is_used_up = is_used_up
        self._is_ended = False
        self._begun: Attempt | None = None
        """Of the message that is being handled."""
        self._blocked: set[str] = set()
        """Keys of which a message has to be handled first that could not be."""

    def handle(self) -> None:
        """Handle what may be handled."""
        for one in self.taken:
            outcome = self._outcome(one)
            if not isinstance(outcome, FINAL):
                self._block(one)
            self.outcomes.append(outcome)

    def fail(self, error: BaseException, *, is_innocent: bool) -> None:
        """End where *error* has ended it: that is the outcome of who was being handled."""
        if self._begun is not None:
            self._begun.error = error
            self.handled.append(self._begun)
            outcome = postpone(describe(error)) if is_innocent else None
            self.outcomes.append(self._failed(self._begun, error, outcome))
        self.outcomes += [Release()] * (len(self.taken) - len(self.outcomes))

    def rows_to_put_back(self) -> list[dict[str, Any]]:
        """Return the values for ``queries/put_back.sql``."""
        found = zip(self.taken, self.outcomes, strict=True)
        rows = [row_to_put_back(*one) for one in found if one[1] is not DONE]
        return [row for row in rows if row is not None]

    def count(self, kind: type[Outcome]) -> int:
        """Return how many had an outcome of this *kind*."""
        return list(map(type, self.outcomes)).count(kind)

    def _outcome(self, one: Claimed) -> Outcome:
        if self._is_over() or one.key in self._blocked:
            return Release()
        if one.expired:
            return Expired()
        return self._handle(one)

    def _is_over(self) -> bool:
        if self.outcomes and not self._is_ended:
            self._is_ended = self._isolation.is_over or self._is_used_up()
        return self._is_ended

    def _block(self, one: Claimed) -> None:
        if self._is_ordered and one.key is not None:
            self._blocked.add(one.key)

    def _handle(self, one: Claimed) -> Outcome:
        self._begun = attempt = attempt_at(self._channel, one, self._using)
        self._dispatch.listener = ""
        report_start(attempt, self._isolation)
        started = time.perf_counter()
        call = partial(attempt.context.run, self._dispatch, one.payload, attempt.notification)
        attempt.error = self._isolation.run(call, guarded(attempt))
        attempt.duration = time.perf_counter() - started
        self._begun = None
        self.handled.append(attempt)
        return DONE if attempt.error is None else self._failed(attempt, attempt.error)

    def _failed(
        self, attempt: Attempt, error: BaseException, outcome: Failure | None = None
    ) -> Outcome:
        attempts, unreadable = attempt.attempts, attempt.unreadable
        outcome = outcome or after_failure(
            attempts, error, self._channel.retry, unreadable=unreadable
        )
        attempt.listener, attempt.outcome = self._dispatch.listener, outcome
        log_failure(attempt, outcome)
        if isinstance(outcome, Postpone):
            self._is_ended = True  # what was in its way may want what this batch holds
        return outcome


class BatchSizing:
    """The size of a channel's next batch: it grows while handling is quick, up to *largest*."""

    def __init__(self, largest: int | None) -> None:
        self._largest = LARGEST_BATCH if largest is None else largest
        self._size = min(FIRST_BATCH, self._largest)
        self._started = 0.0

    def start(self) -> int:
        """Begin a batch; return how many to take."""
        self._started = time.monotonic()
        return self._size

    def is_used_up(self, savepoints: int) -> bool:
        """Whether the batch has had its time, or its savepoints."""
        has_had_time = time.monotonic() - self._started >= BATCH_SECONDS
        return has_had_time or savepoints >= BATCH_SAVEPOINTS

    def end(self, reached: int, taken: int, savepoints: int) -> None:
        """Learn from a batch of which *reached* of *taken* were handled."""
        if reached < taken:
            self._size = max(1, reached)
        elif 2 * reached > self._size:  # not all of it, where runs of many keys are equally short
            room = 1 / max(self._used(savepoints), 1 / QUICKEST_GROWTH)
            self._size = min(max(self._size, int(self._size * room)), self._largest)

    def _used(self, savepoints: int) -> float:
        """Return the share of its time or its savepoints that the batch has had."""
        elapsed = time.monotonic() - self._started
        return max(elapsed / BATCH_SECONDS, savepoints / BATCH_SAVEPOINTS)
