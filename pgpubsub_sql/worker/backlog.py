"""The backlog: ephemeral messages that were received and not handled yet."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from sys import getsizeof

logger = logging.getLogger("pgpubsub_sql.worker")

MEGABYTE = 2**20
MAX_WAITING = 64 * MEGABYTE
"""Most memory for the messages of a channel that wait. When more arrive, the oldest are dropped:
ephemeral messages lose their value quickly, so the newest are worth most."""

REPORT_SECONDS = 10.0
"""Time between two reports of a burst that does not end."""


class Waiting:
    """Messages of one channel that wait, the oldest first, and the memory that they take."""

    def __init__(self) -> None:
        self.payloads: deque[str] = deque()
        self._sizes: deque[int] = deque()
        self._size = 0

    def add(self, payload: str) -> int:
        """Add a message; return how many were dropped for it."""
        size = getsizeof(payload)
        self.payloads.append(payload)
        self._sizes.append(size)
        self._size += size
        dropped = 0
        while self._size > MAX_WAITING:
            self.payloads.popleft()
            self.settle()
            dropped += 1
        return dropped

    def settle(self) -> None:
        """Subtract what was taken from the left."""
        for _ in range(len(self._sizes) - len(self.payloads)):
            self._size -= self._sizes.popleft()


class Backlog:
    """A bounded queue for each channel, so that a burst does not fill the memory.

    Messages are read into memory to keep them out of the server's NOTIFY queue, which all databases
    share. Channels take turns, so that a flood on one does not delay the others.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        """By channel, the next in turn first, without empty queues."""
        self._dropped: dict[str, int] = {}
        self._report_at = 0.0

    def __len__(self) -> int:
        return sum(len(waiting.payloads) for waiting in self._waiting.values())

    def add(self, name: str, payload: str) -> None:
        """Add a message of a channel."""
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = Waiting()
        if dropped := waiting.add(payload):
            self._note(name, dropped)

    @contextmanager
    def turn(self) -> Iterator[tuple[str, deque[str]]]:
        """Yield the channel whose turn it is and its messages, to be taken from the left.

        What is left then waits for the channel's next turn.
        """
        name = next(iter(self._waiting))
        waiting = self._waiting.pop(name)
        try:
            yield name, waiting.payloads
        finally:
            if waiting.payloads:
                waiting.settle()
                self._waiting[name] = waiting

    def report(self) -> None:
        """Log how many messages were dropped: after a burst, and now and then during a long one."""
        is_long = self._report_at <= time.monotonic()
        for name in [name for name in self._dropped if is_long or name not in self._waiting]:
            message = (
                "%s messages on channel %s were dropped: they arrive faster than its listeners "
                "handle them, and at most %g MB are kept waiting. Make the listeners faster, or "
                "the channel durable."
            )
            count, extra = self._dropped.pop(name), {"channel": name}
            most = MAX_WAITING / MEGABYTE
            logger.warning(message, count, name, most, extra=extra | {"count": count})
        if is_long:
            self._report_at = time.monotonic() + REPORT_SECONDS

    def _note(self, name: str, dropped: int) -> None:
        if not self._dropped:
            self._report_at = time.monotonic() + REPORT_SECONDS
        self._dropped[name] = self._dropped.get(name, 0) + dropped
