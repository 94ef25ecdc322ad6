"""How many messages a transaction should hold."""

from __future__ import annotations

import time

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


class Pace:
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
