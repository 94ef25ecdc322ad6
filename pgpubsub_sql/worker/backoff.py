"""Waiting longer each time, never in step with others."""

from __future__ import annotations

import random

LONGEST_SECONDS = 30.0


class Backoff:
    """Delays that double from *first* seconds up to half a minute, each a little less than that."""

    def __init__(self, first: float = 0.1) -> None:
        self.first = first
        self.failures = 0

    def fail(self) -> float:
        """Count one more failure; return the seconds to wait after it."""
        delay = min(LONGEST_SECONDS, self.first * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return delay * random.uniform(0.5, 1)  # noqa: S311 - spreads load, keeps no secret

    def reset(self) -> None:
        """Begin anew."""
        self.failures = 0
