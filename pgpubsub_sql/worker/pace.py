"""How many messages a transaction should hold."""

from __future__ import annotations

import time

BATCH_SECONDS = 0.05
"""A batch ends after about this long, so that its transaction stays short."""
BATCH_SAVEPOINTS = 60
"""A batch ends after so many savepoints. Beyond 64 subtransactions PostgreSQL keeps track of them
on disk, and every session that meets one of their rows gets slow."""
LARGEST_BATCH = 500
FIRST_BATCH = LARGEST_BATCH
"""It ends where it must, and what was not reached is given back: no reason to be timid."""
QUICKEST_GROWTH = 4
"""By how much a batch may be larger than the one before, however quick that was."""


class Pace:
    """The size of a channel's next batch: it grows while handling is quick, up to *largest*.

    With *is_careful* the first is of one message: a worker may have died of what it took before it
    had any of it in hand, as hundreds of large ones may be more than there is memory for. What is
    large takes its time, so that the next batches hold no more of it than can be borne.
    """

    def __init__(self, largest: int | None, *, is_careful: bool = False) -> None:
        self._largest = LARGEST_BATCH if largest is None else largest
        self._size = 1 if is_careful else min(FIRST_BATCH, self._largest)
        self._is_alone = False
        self._started = 0.0

    def start(self) -> int:
        """Begin a batch; return how many to take."""
        self._started = time.monotonic()
        return 1 if self._is_alone else self._size

    def is_used_up(self, savepoints: int) -> bool:
        """Whether the batch has had its time, or its savepoints."""
        return self._used(savepoints) >= 1

    def end(self, reached: int, taken: int, savepoints: int, *, is_alone: bool) -> None:
        """Learn from a batch of which *reached* of *taken* were handled.

        *is_alone* tells that the next to come is to be alone, as far as can be seen.
        """
        was_alone, self._is_alone = self._is_alone, is_alone
        if was_alone or is_alone:
            return  # neither says how quick the others are
        if reached < taken:
            self._size = max(1, reached)
        elif 2 * reached > self._size:  # not all of it, where runs of many keys are equally short
            room = 1 / max(self._used(savepoints), 1 / QUICKEST_GROWTH)
            self._size = min(max(self._size, int(self._size * room)), self._largest)

    def _used(self, savepoints: int) -> float:
        """Return the share of its time or its savepoints that the batch has had."""
        elapsed = time.monotonic() - self._started
        return max(elapsed / BATCH_SECONDS, savepoints / BATCH_SAVEPOINTS)
