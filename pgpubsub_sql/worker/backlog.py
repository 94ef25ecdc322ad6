"""Ephemeral messages that were heard and not handled yet."""

from __future__ import annotations

import logging
import time
from collections import deque

from pgpubsub_sql.worker.doorbell import Notify

logger = logging.getLogger("pgpubsub_sql.worker")

KEPT = 10_000
"""Messages of a channel that wait for its listeners. When more come, the oldest give way: of what
is worthless a moment later the newest is worth most."""

REPORT_SECONDS = 10.0
"""How often a burst that does not end is reported."""


class Backlog:
    """Bounded, so that a burst which listeners cannot follow does not fill the memory.

    Reading it into memory all the same keeps it out of the server's NOTIFY queue, which is
    everybody's. Channels take turns, so that a flood on one does not keep the others waiting.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[str]] = {}
        """By channel, the next in turn first; none that is empty."""
        self._dropped: dict[str, int] = {}
        self._report_at = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, notify: Notify) -> None:
        """Have a message wait."""
        waiting = self._waiting.setdefault(notify.channel, deque(maxlen=KEPT))
        if len(waiting) == waiting.maxlen:
            self._drop(notify.channel)
        waiting.append(notify.payload)

    def next(self) -> Notify | None:
        """Take out what is to be handled next."""
        for name in self._waiting:
            waiting = self._waiting.pop(name)
            payload = waiting.popleft()
            if waiting:
                self._waiting[name] = waiting  # behind the others
            return Notify(name, payload)
        return None

    def report(self) -> None:
        """Log how many messages a burst has cost, once it is over; of a long one, now and then."""
        is_long = self._report_at <= time.monotonic()
        for name in [name for name in self._dropped if is_long or name not in self._waiting]:
            message = (
                "%s messages on channel %s were dropped: they arrive faster than its listeners "
                "handle them, and at most %s are kept waiting. Make the listeners faster, or the "
                "channel durable."
            )
            count = self._dropped.pop(name)
            logger.warning(message, count, name, KEPT, extra={"channel": name, "count": count})
        if is_long:
            self._report_at = time.monotonic() + REPORT_SECONDS

    def _drop(self, name: str) -> None:
        if not self._dropped:
            self._report_at = time.monotonic() + REPORT_SECONDS
        self._dropped[name] = self._dropped.get(name, 0) + 1
