"""Counters: what became of messages, summed in memory until somebody writes it down."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pgpubsub_sql.retry import Discard
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.outcomes import Discarded, Park


class Tally:
    """Messages that a *listener* was called with, and the seconds that took, not settled yet.

    An empty *listener* stands for none: nobody wanted these messages.
    """

    __slots__ = ("listener", "messages", "seconds")

    def __init__(self, listener: str) -> None:
        self.listener = listener
        self.messages = 0
        self.seconds = 0.0


@dataclasses.dataclass(slots=True)
class Count:
    """What became of messages of one listener; see docs/howto/monitor.md."""

    handled: int = 0
    failed: int = 0
    parked: int = 0
    discarded: int = 0
    expired: int = 0
    seconds: float = 0.0
    """That calls of the listener took."""


class Counters:
    """The counts of one worker, by channel, subscription and listener, that nobody has written."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], Count] = defaultdict(Count)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def settle(
        self,
        channel: str,
        subscription: str,
        tallies: Iterable[Tally],
        attempts: Iterable[Attempt],
        *,
        is_undone: bool = False,
    ) -> None:
        """Count what became of the messages in *tallies*, of which these *attempts* failed.

        With *is_undone*, their transaction was rolled back, which is a failure of all of them. The
        failure of a message counts for the listener that was called last; the others returned.
        """
        for tally in tallies:
            if tally.messages:
                count = self._counts[channel, subscription, tally.listener]
                count.seconds += tally.seconds
                if is_undone:
                    count.failed += tally.messages
                elif tally.listener:
                    count.handled += tally.messages
                else:
                    count.discarded += tally.messages
                tally.messages, tally.seconds = 0, 0.0
        for one in attempts:
            if one.error is not None:
                self._fail(self._counts[channel, subscription, one.listener], one, is_undone)

    def _fail(self, count: Count, attempt: Attempt, is_undone: bool) -> None:
        """Count the failure of a message, whose call was counted already, if there was one."""
        if attempt.listener and is_undone:
            count.failed -= 1
        elif attempt.listener:
            count.handled -= 1
        if isinstance(attempt.outcome, Park):
            count.parked += 1
        elif isinstance(attempt.outcome, Discarded) or isinstance(attempt.error, Discard):
            count.discarded += 1
        else:
            count.failed += 1

    def expire(self, channel: str, subscription: str, messages: int) -> None:
        """Count messages that had expired when they were claimed."""
        self._counts[channel, subscription, ""].expired += messages

    def add(self, channel: str, subscription: str, listener: str, counted: Count) -> None:
        """Count what became of messages otherwise."""
        count = self._counts[channel, subscription, listener]
        for field in dataclasses.fields(Count):
            total = getattr(count, field.name) + getattr(counted, field.name)
            setattr(count, field.name, total)

    def values(self) -> dict[str, list[Any]]:
        """Return the values for the query ``count``."""
        channels, subscriptions, listeners = zip(*self._counts, strict=True)
        names = [field.name for field in dataclasses.fields(Count)]
        counts = {name: [getattr(one, name) for one in self._counts.values()] for name in names}
        where = {"channel": channels, "subscription": subscriptions, "listener": listeners}
        return {name: list(one) for name, one in where.items()} | counts

    def clear(self) -> None:
        """Forget all counts, which were written."""
        self._counts.clear()
