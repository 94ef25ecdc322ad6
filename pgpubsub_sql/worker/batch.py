"""What happens to the messages of one batch, one after another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import chain, repeat
from typing import Any

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.retry import Discard, Retry
from pgpubsub_sql.worker.calling import Caller
from pgpubsub_sql.worker.hand import Hand
from pgpubsub_sql.worker.isolation import Isolation
from pgpubsub_sql.worker.messages import notification
from pgpubsub_sql.worker.outcomes import (
    Discarded,
    Done,
    Expired,
    Failure,
    GiveBack,
    Outcome,
    Park,
    Postpone,
    Taken,
    TryAgain,
    after_failure,
    next_step,
    row_to_put_back,
)

logger = logging.getLogger("pgpubsub_sql.worker")

_LEVELS: dict[type[Failure], int] = {
    TryAgain: logging.ERROR,
    Park: logging.ERROR,
    Postpone: logging.WARNING,
    Discarded: logging.INFO,
}


class Batch:
    """What was taken of one channel in one transaction, and what becomes of each.

    It ends early, and what was not reached is given back: when *is_used_up* says so, after a
    message that was in somebody's way, and before and after one that is to be alone.
    """

    def __init__(
        self,
        taken: list[Taken],
        isolation: Isolation,
        *,
        call: Caller,
        retry: Retry,
        is_ordered: bool,
        is_used_up: Callable[[], bool],
        hand: Hand,
    ) -> None:
        self.taken = taken
        self.outcomes: list[Outcome] = []
        """What became of the first so many of *taken*."""
        self._isolation = isolation
        self._call = call
        self._retry = retry
        self._is_ordered = is_ordered
        self._is_used_up = is_used_up
        self._hand = hand
        self._is_ended = False
        self._blocked: set[str] = set()
        """Keys of which a message has to be handled first that could not be."""

    def handle(self) -> None:
        """Handle what may be handled."""
        for one in self.taken:
            outcome = self._outcome(one)
            if not isinstance(outcome, Done | Discarded | Expired | Park):
                self._block(one)
            self.outcomes.append(outcome)

    def rows_to_put_back(self) -> list[dict[str, Any]]:
        """Return the values for ``queries/put_back.sql``."""
        outcomes = chain(self.outcomes, repeat(GiveBack()))
        rows = map(row_to_put_back, self.taken, outcomes)
        return [row for row in rows if row is not None]

    def count(self, kind: type[Outcome]) -> int:
        """Return how many had an outcome of this *kind*."""
        return sum(isinstance(outcome, kind) for outcome in self.outcomes)

    @property
    def is_next_alone(self) -> bool:
        """Whether what comes next is to be alone, as far as this batch can tell."""
        if self.taken[0].alone:
            return True
        return any(
            one.alone and isinstance(outcome, GiveBack)
            for one, outcome in zip(self.taken, self.outcomes, strict=True)
        )

    def _outcome(self, one: Taken) -> Outcome:
        if self._ends_before(one) or one.key in self._blocked:
            return GiveBack()
        if one.expired:
            return Expired()
        return self._handle(one)

    def _ends_before(self, one: Taken) -> bool:
        if self.outcomes and not self._is_ended:
            self._is_ended = (
                one.alone or self.taken[0].alone or self._isolation.is_over or self._is_used_up()
            )
        return self._is_ended

    def _block(self, one: Taken) -> None:
        if self._is_ordered and one.key is not None:
            self._blocked.add(one.key)

    def _handle(self, one: Taken) -> Outcome:
        self._hand.take(one.id)
        call = partial(self._call, one.payload, partial(self._notification, one))
        error = self._isolation.run(call, guarded(one.channel))
        self._hand.clear()
        if error is None:
            return Done()
        outcome = failed(one, error, after_failure(one.attempts, error, self._retry))
        if isinstance(outcome, Postpone):
            self._is_ended = True  # what was in its way may want what this batch holds
        return outcome

    def _notification(self, one: Taken) -> Any:
        return notification(
            self._isolation.using,
            id=one.id,
            channel=one.channel,
            created_at=one.created_at,
            attempts=one.attempts,
        )


def failed(taken: Taken, error: BaseException, outcome: Failure) -> Failure:
    """Log what a notification failed with and what happens next; return *outcome*."""
    says_enough = isinstance(error, PayloadError | Discard)
    logger.log(
        _LEVELS[type(outcome)],
        "Notification %s of channel %s failed and %s.%s",
        taken.id,
        taken.channel,
        next_step(outcome),
        f" {error}" if says_enough else "",
        exc_info=None if says_enough else error,
    )
    return outcome


def guarded(channel: str) -> Callable[[Callable[[], object]], Callable[[], None]]:
    """Return what keeps the failure of one callback given to ``on_commit()`` from the others."""

    def guard(function: Callable[[], object]) -> Callable[[], None]:
        def call_back() -> None:
            try:
                function()
            except (Exception, SystemExit):  # what it belongs to is committed already
                logger.exception(
                    "A callback given to transaction.on_commit() by a listener of channel %s "
                    "failed; the message itself was handled.",
                    channel,
                )

        return call_back

    return guard
