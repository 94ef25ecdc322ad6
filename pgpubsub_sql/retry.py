"""When failed work is tried again: a message, or the worker's own work."""

from __future__ import annotations

import dataclasses
import math
import random


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retry:
    """How often, and how soon, a durable channel tries a message again.

    ::

        @dataclass
        class Invoice(pgpubsub_sql.Channel):
            number: int
            lock_notifications = True
            retry = pgpubsub_sql.Retry(max_attempts=5, delay=60)

    By default the delays are 10 s, 30 s, 90 s and so on, at most an hour. After ten attempts, about
    four hours later, the message is parked. Raises :class:`ValueError` for invalid values.
    """

    max_attempts: int = 10
    """Number of attempts before the message is parked; 1 means no retry."""
    delay: float = 10.0
    """Seconds between the first failure and the second attempt."""
    factor: float = 3.0
    """Each further delay is this many times as long as the one before."""
    longest: float = 3600.0
    """Longest delay in seconds, without jitter."""
    jitter: float = 0.2
    """Each delay is lengthened at random by up to this share of itself, so that messages which
    failed together are not tried again together."""

    def __post_init__(self) -> None:
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise ValueError(f"Retry: max_attempts must be at least 1, not {self.max_attempts!r}.")
        for field, least in {"delay": 0, "factor": 1, "longest": 0, "jitter": 0}.items():
            value = getattr(self, field)
            if not is_number(value) or value < least:
                raise ValueError(
                    f"Retry: {field} must be a number of at least {least}, not {value!r}."
                )

    def seconds(self, failures: int) -> float:
        """Return the delay in seconds after this many failures."""
        # Bounded, because a float overflows; by then the delay is the longest anyway.
        grown = self.delay * min(self.factor ** min(failures - 1, 100), 1e300)
        return min(grown, self.longest) * random.uniform(1, 1 + self.jitter)  # noqa: S311


class RetryAfter(Exception):
    """Raised by a listener: undo this message, and try it again after *seconds*.

    It counts as a failed attempt, so the message is parked in the end. On an ephemeral channel,
    whose messages are not stored, it is a failure like any other.

    ::

        raise pgpubsub_sql.RetryAfter(int(response.headers["Retry-After"]))
    """

    def __init__(self, seconds: float) -> None:
        if not is_number(seconds) or seconds < 0:
            raise ValueError(f"RetryAfter wants a number of seconds, not {seconds!r}.")
        super().__init__(seconds)
        self.seconds = seconds


class Discard(Exception):
    """Raised by a listener: undo this message, and delete it. The argument is logged as the reason.

    ::

        raise pgpubsub_sql.Discard("the order was cancelled meanwhile")
    """


def is_number(value: object) -> bool:
    """Return whether *value* is a finite number, and not a bool."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


FIRST_SECONDS = 0.1
LONGEST_SECONDS = 30.0


class Backoff:
    """Delays between the worker's own attempts, such as to connect.

    They double from a tenth of a second to half a minute, and each is shortened at random.
    """

    def __init__(self) -> None:
        self.failures = 0

    def fail(self) -> float:
        """Count a failure; return the seconds to wait after it."""
        delay = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return delay * random.uniform(0.5, 1)  # noqa: S311 - spreads load, keeps no secret
