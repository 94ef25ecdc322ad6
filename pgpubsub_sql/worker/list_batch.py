"""A batch of which a batch listener gets as many messages as possible in one call."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence
from contextvars import Context
from typing import Any, cast

from pgpubsub_sql.batches import PartialFailure
from pgpubsub_sql.errors import ListenerError, brief
from pgpubsub_sql.retry import Backoff, Discard, RetryAfter
from pgpubsub_sql.sql import sqlstate
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.batch import DONE, FINAL, FIRST_BATCH, Batch, BatchLimits
from pgpubsub_sql.worker.decoding import DecodedInstance
from pgpubsub_sql.worker.isolation import Isolation
from pgpubsub_sql.worker.outcomes import (
    INNOCENT,
    Claimed,
    Expired,
    Failure,
    Outcome,
    Postpone,
    Release,
    describe,
    postpone,
)
from pgpubsub_sql.worker.reporting import report_start

logger = logging.getLogger("pgpubsub_sql.worker")

LARGEST_LIST = 500
"""Most messages of a list."""
LIST_CALLS = 40
"""A batch ends after this many calls: those that search for one bad message among 500 are 18."""
LIST_SECONDS = 1.0
"""A batch whose calls fail ends after about this time."""
FREE_OUTAGES = 10
"""After so many batches in a row of which no call has succeeded, one message of each further one is
charged. So a channel with nothing but bad messages gets rid of them, and an outage of hours charges
few of many."""
SLOWEST_CALLS = 3
"""Most calls of a batch that may take as long as the channel's timeout permits: those for two
messages and for each of them."""

STRANGER = (
    "PartialFailure names {!r}, which is not an object of the list that the listener was called "
    "with. Name the messages by the objects of that list, and not by copies of them."
)


class ListSizing:
    """The size of the next batch: it doubles up to *largest*, and is quartered after trouble."""

    def __init__(self, largest: int | None) -> None:
        self._largest = LARGEST_LIST if largest is None else largest
        self._size = min(FIRST_BATCH, self._largest)
        self._backoff = Backoff()
        self._rest = self._backoff.fail()

    def start(self) -> BatchLimits:
        """Begin a batch; return its limits."""
        until = time.monotonic() + LIST_SECONDS
        return BatchLimits(
            messages=self._size,
            until=until,
            rest=self._rest,
            charges_one=self._backoff.failures > FREE_OUTAGES,
        )

    def end(self, batch: Batch) -> None:
        """Learn from a batch how many messages can be handled."""
        self._backoff = self._backoff if batch.rest else Backoff()
        self._rest = self._backoff.fail()
        if batch.rest or cast(ListBatch, batch).is_exhausted:
            self._size = min(max(2, self._size // 4), self._largest)
        elif 2 * len(batch.claimed) > self._size:
            self._size = min(2 * self._size, self._largest)


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """A message of the batch."""

    position: int
    """Its position among those that were claimed."""
    claimed: Claimed
    attempt: Attempt
    context: Context
    """The attempt's context before the listener was called."""
    instance: DecodedInstance | None = None
    """The decoded message; None if it is not to be handled."""


Part = list[Item]


class ListBatch(Batch):
    """Claimed messages of one channel, of which its batch listener gets a list.

    What has expired, cannot be read or is not wanted is sorted out first. Then the listener is
    called with all others, in one savepoint. If it raises, that is undone, and it is called with
    each half, the left one first, until those that fail alone are found. These are charged with a
    failed attempt.

    A batch that needs too many calls, savepoints or too much time ends, and releases what it has
    not settled. Two messages are always told apart, so that this comes to an end.

    If no call has succeeded, nobody knows whether the messages are at fault or something that all
    of them need. So unless only one has failed alone, they are postponed, none is charged, and the
    channel is left alone for a while (:attr:`rest`). Before a batch that has to end is taken for
    such an outage, its last part is tried, because the first messages may all be bad.

    If the order matters, a message is not called after an earlier one of its key has failed.
    """

    def __init__(self, claimed: Sequence[Claimed], isolation: Isolation, **options: Any) -> None:
        super().__init__(claimed, isolation, **options)
        self.is_exhausted = False
        """Whether it had to end before all was settled."""
        self._settled: list[Outcome | None] = [None] * len(self.claimed)
        self._items: Part = []
        """Messages that have been read, whatever became of them."""
        self._part: Part = []
        """What is being read, or what the listener is being called with."""
        self._named: list[tuple[Item, BaseException]] = []
        """Messages of the part that the listener has named as failed."""
        self._failed: list[tuple[Item, BaseException]] = []
        """Messages that have failed alone, or were named."""
        self._failed_at: dict[str | None, int] = {}
        """If the order matters, for each key the position of the first message that has failed."""
        self._has_succeeded = False
        """Whether a call has returned, or named those that failed."""
        self._error: BaseException | None = None
        """What the last call failed with."""
        self._calls = 0

    def handle(self) -> None:
        """Handle the messages."""
        parts = [part] if (part := self._read()) else []
        self._dispatch.batch_tally.messages += sum(map(len, parts))
        while parts and not self._is_over():
            parts += self._try(parts.pop())
        if parts and not self._has_succeeded and self._may_probe():
            parts = self._probe(parts)
        self._conclude([item for part in parts for item in part])

    def abort(self, error: BaseException, *, is_innocent: bool) -> None:
        """End the batch with *error*, the failure of the call under way."""
        for item in self._part:
            self._fail_item(item, error, postpone(describe(error)) if is_innocent else None)
        self._conclude([])

    # --- Reading

    def _read(self) -> Part:
        """Return the messages to call the listener with, once the others are settled."""
        found = []
        for position, one in enumerate(self.claimed):
            if position and self._has_read_enough():
                break
            if one.key in self._failed_at:
                self._settled[position] = Release()
            elif one.unusual is not None and one.rest.expired:
                self._settled[position] = Expired()
            elif item := self._read_one(position, one):
                found.append(item)
        self._part = []
        return found

    def _has_read_enough(self) -> bool:
        return self._has_to_end() or 2 * self.isolation.savepoints >= self._limits.savepoints

    def _read_one(self, position: int, one: Claimed) -> Item | None:
        self._in_flight[0] = one.id
        attempt = self._attempt = self._attempt_at(one)
        self._spare = None
        item = Item(position, one, attempt, attempt.context)
        self._items.append(item)
        self._part = [item]
        report_start(attempt, self.isolation)
        started = time.perf_counter()
        error = self.isolation.run(self._decode, self._guard)
        attempt.duration = time.perf_counter() - started
        if error is not None:
            if not isinstance(self._fail_item(item, error), FINAL):
                self._block(item)
        elif item.instance is not None:
            return item
        else:
            self._settled[position] = DONE
        return None

    def _decode(self) -> None:
        (item,) = self._part
        read = self._dispatch.read_instance
        item.instance = item.context.run(read, item.claimed.payload, item.attempt)

    # --- Calling

    def _is_over(self) -> bool:
        """Return whether the listener must not be called any more."""
        if self.isolation.is_committed or self._has_postponed:
            return True
        if self._calls == 0 or len(self._items) <= 2:
            return False
        return (
            self._calls >= LIST_CALLS
            or self.isolation.savepoints >= self._limits.savepoints
            or time.monotonic() >= self._limits.until
            or isinstance(self._error, RetryAfter)
        )

    def _try(self, part: Part) -> list[Part]:
        """Call the listener with *part*; return with what to call it next, the last one first."""
        part = self._part = self._unblocked(part)
        if not part:
            return []
        error = self._call_with(part)
        self._part = []
        if error is not None and not isinstance(error, PartialFailure):
            return self._halve(part, error)
        self._has_succeeded = True
        for item, failure in self._named:
            self._note_failure(item, failure)
        named = [item for item, _ in self._named]
        others = [item for item in part if item not in named]
        if error is not None:  # all of it was undone
            return [others]
        self._settle(others, DONE)
        if self._is_kept:
            for item in others:
                self._note_duration(item.claimed, item.attempt.duration or 0.0)
        return []

    def _unblocked(self, part: Part) -> Part:
        """Return *part* without what has to wait for one that failed."""
        blocked = [item for item in part if self._is_blocked(item)]
        self._settle(blocked, Release())
        return [item for item in part if item not in blocked] if blocked else part

    def _is_blocked(self, item: Item) -> bool:
        return self._failed_at.get(item.claimed.key, item.position) < item.position

    def _block(self, item: Item) -> None:
        """Block the messages of its key that come after *item*."""
        key, position = item.claimed.key, item.position
        if self._is_ordered and key is not None:
            self._failed_at[key] = min(position, self._failed_at.get(key, position))

    def _call_with(self, part: Part) -> BaseException | None:
        self._calls += 1
        self._named = []
        first = part[0]
        self._in_flight[0] = first.claimed.id
        self._attempt = first.attempt
        first.attempt.context = first.context.copy()
        started = time.perf_counter()
        error = self.isolation.run(self._call_listener, self._guard)
        share = (time.perf_counter() - started) / len(part)
        for item in part:
            item.attempt.duration = share
        self._attempt = None
        return error

    def _call_listener(self) -> None:
        batch = [(cast(DecodedInstance, item.instance), item.attempt) for item in self._part]
        try:
            self._part[0].attempt.context.run(self._dispatch.call_batch, batch)
        except PartialFailure as failure:
            self._named = self._items_of(failure)
            is_undone = failure.is_inside(self.isolation.blocks, using=self._using)
            if is_undone or self._is_out_of_order():
                raise

    def _items_of(self, failure: PartialFailure) -> list[tuple[Item, BaseException]]:
        items = {id(cast(DecodedInstance, item.instance).value): item for item in self._part}
        errors: dict[int, BaseException] = {}
        for message, error in failure.failures:
            if id(message) not in items:
                raise ListenerError(STRANGER.format(message)) from failure
            errors.setdefault(items[id(message)].position, error)
        return [(item, errors[item.position]) for item in self._part if item.position in errors]

    def _is_out_of_order(self) -> bool:
        """Return whether a message that was not named comes after one of its key that was."""
        named = {item.position: item.claimed.key for item, _ in self._named}
        keys: set[str] = set()
        for item in self._part if self._is_ordered else ():
            key = item.claimed.key
            if item.position not in named and key in keys:
                return True
            if item.position in named and key is not None:
                keys.add(key)
        return False

    def _halve(self, part: Part, error: BaseException) -> list[Part]:
        """Note that the call of *part* has failed; return its halves, the left one last."""
        if self._error is None and len(part) > 1:
            self._log(part, error)
        self._error = error
        if self.isolation.is_committed:  # nothing of it can be undone, so all have failed
            for item in part:
                self._fail_item(item, error)
        elif sqlstate(error) in INNOCENT:
            self._postpone(part, error, postpone(describe(error)).seconds)
            self._has_postponed = True
        elif len(part) == 1:
            self._note_failure(part[0], error)
        else:
            middle = (len(part) + 1) // 2
            return [part[middle:], part[:middle]]
        return []

    def _note_failure(self, item: Item, error: BaseException) -> None:
        """Note that *item* has failed by itself, unless an earlier one of its key has."""
        if self._is_blocked(item):
            self._settle([item], Release())
        else:
            self._failed.append((item, error))
            self._block(item)

    def _may_probe(self) -> bool:
        is_usable = not (self.isolation.is_committed or self._has_postponed)
        return is_usable and not isinstance(self._error, RetryAfter)

    def _probe(self, parts: list[Part]) -> list[Part]:
        """Try the last part of all, without what has to wait for those before it."""
        last, *before = parts
        for item in (item for part in before for item in part):
            self._block(item)
        return self._try(last) + before

    # --- Settling

    def _conclude(self, rest: Part) -> None:
        """Decide what becomes of those that have failed, and of the *rest*."""
        self.is_exhausted = bool(rest)
        discarded = [one for one in self._failed if isinstance(one[1], Discard)]
        guilty = [one for one in self._failed if one not in discarded]
        is_sure = self._has_succeeded or self.isolation.is_committed
        is_sure = is_sure or (not rest and len(guilty) <= 1)
        charged = guilty if is_sure else guilty[: self._limits.charges_one]
        for item, error in discarded + charged:
            self._fail_item(item, error)
        if self._error is not None and not is_sure:
            for item, error in guilty[len(charged) :]:
                self._postpone([item], error, self._limits.rest)
            self._postpone(rest, self._error, self._limits.rest)
            self._note_outage(self._error, is_charged=bool(charged))
        elif isinstance(self._error, RetryAfter):
            self._postpone(rest, self._error)
        released = [item for item in self._items if self._is_released(item)]
        self._dispatch.batch_tally.messages -= len(released)
        self.outcomes = [Release() if one is None else one for one in self._settled]
        self.attempts = [item.attempt for item in self._items if self._is_told_of(item)]

    def _postpone(self, items: Part, error: BaseException, seconds: float = 0.0) -> None:
        """Postpone *items*, together, because nobody knows which of them are at fault, if any."""
        seconds = error.seconds if isinstance(error, RetryAfter) else seconds
        outcome = Postpone(describe(error), seconds)
        for item in items:
            item.attempt.fail(error, outcome)
        self._settle(items, outcome)

    def _note_outage(self, error: BaseException, *, is_charged: bool) -> None:
        if self._has_postponed:
            return
        self.rest = self._limits.rest
        message = (
            "No call of a batch listener of channel %s has succeeded (messages: %s). This seems to "
            "be an outage: %s charged with an attempt, and the channel is tried again after "
            "growing delays of up to half a minute."
        )
        charged = "it has lasted so long that one message is" if is_charged else "no message is"
        count = len(self._items)
        extra = {**self._lane._asdict(), "count": count}
        logger.warning(message, self._lane, count, charged, exc_info=error, extra=extra)

    def _log(self, part: Part, error: BaseException) -> None:
        """Log the first failure of more than one message; those that fail alone are logged, too."""
        message = (
            "The batch listener %s failed for %s messages of channel %s together. What it wrote is "
            "undone, and parts of them are tried: %s"
        )
        listener, count = part[0].attempt.listener, len(part)
        extra = {**self._lane._asdict(), "count": count, "listener": listener}
        logger.warning(message, listener, count, self._lane, brief(error), extra=extra)

    def _is_released(self, item: Item) -> bool:
        """Return whether a message that was to be handled goes back as it was."""
        is_settled = isinstance(self._settled[item.position], Release | None)
        return item.instance is not None and is_settled

    def _is_told_of(self, item: Item) -> bool:
        is_done = self._settled[item.position] is DONE
        return item.attempt.error is not None or (is_done and self._keeps_all)

    def _fail_item(
        self, item: Item, error: BaseException, outcome: Failure | None = None
    ) -> Failure:
        outcome = self._fail(item.attempt, error, outcome)
        self._settle([item], outcome)
        return outcome

    def _settle(self, part: Iterable[Item], outcome: Outcome) -> None:
        for item in part:
            self._settled[item.position] = outcome
