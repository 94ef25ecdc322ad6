"""Waiting longer each time, never in step with others."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 30.0


class Backoff:
    """Delays that double from a tenth of a second to half a minute, each cut a little."""

    def __init__(self) -> None:
        self.failures = 0

    def fail(self) -> float:
        """Count one more failure; return the seconds to wait after it."""
        delay = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return delay * random.uniform(0.5, 1)  # noqa: S311 - spreads load, keeps no secret
