"""The backlog: ephemeral messages that were received and not handled yet."""

from __future__ import annotations

import logging
import time
from collections import deque

from pgpubsub_sql.worker.doorbell import Notify

logger = logging.getLogger("pgpubsub_sql.worker")

MAX_WAITING = 10_000
"""Most messages of a channel that wait. When more arrive, the oldest are dropped: ephemeral
messages lose their value quickly, so the newest are worth most."""

REPORT_SECONDS = 10.0
"""Time between two reports of a burst that does not end."""


class Backlog:
    """A bounded queue for each channel, so that a burst does not fill the memory.

    Messages are read into memory to keep them out of the server's NOTIFY queue, which all databases
    share. Channels take turns, so that a flood on one does not delay the others.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[str]] = {}
        """By channel, the next in turn first, without empty queues."""
        self._dropped: dict[str, int] = {}
        self._report_at = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, notify: Notify) -> None:
        """Add a message."""
        waiting = self._waiting.setdefault(notify.channel, deque(maxlen=MAX_WAITING))
        if len(waiting) == waiting.maxlen:
            self._drop(notify.channel)
        waiting.append(notify.payload)

    def next(self) -> Notify | None:
        """Remove and return the message to handle next, or None."""
        for name in self._waiting:
            waiting = self._waiting.pop(name)
            payload = waiting.popleft()
            if waiting:
                self._waiting[name] = waiting  # last in turn
            return Notify(name, payload)
        return None

    def report(self) -> None:
        """Log how many messages were dropped: after a burst, and now and then during a long one."""
        is_long = self._report_at <= time.monotonic()
        for name in [name for name in self._dropped if is_long or name not in self._waiting]:
            message = (
                "%s messages on channel %s were dropped: they arrive faster than its listeners "
                "handle them, and at most %s are kept waiting. Make the listeners faster, or the "
                "channel durable."
            )
            count = self._dropped.pop(name)
            logger.warning(
                message, count, name, MAX_WAITING, extra={"channel": name, "count": count}
            )
        if is_long:
            self._report_at = time.monotonic() + REPORT_SECONDS

    def _drop(self, name: str) -> None:
        if not self._dropped:
            self._report_at = time.monotonic() + REPORT_SECONDS
        self._dropped[name] = self._dropped.get(name, 0) + 1
