"""What becomes of a message whose listener failed, as its channel and the listener may say."""

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

    By default it waits 10 s, 30 s, 90 s and so on, at most an hour, and parks the message after
    ten attempts, about four hours later. Raises :class:`ValueError` for what makes no sense.
    """

    max_attempts: int = 10
    """After so many attempts have failed, the message is parked. 1: it is not tried again."""
    delay: float = 10.0
    """Seconds between the first failure and the second attempt."""
    factor: float = 3.0
    """How many times as long as the one before each further delay is."""
    longest: float = 3600.0
    """Seconds that no delay exceeds, but for the jitter."""
    jitter: float = 0.2
    """Each delay is lengthened by up to this share of itself, at random, so that what failed
    together is not tried again together."""

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
        """Return the seconds to wait after so many failures."""
        # Beyond a hundred the power could be no float any more, and is the longest anyway.
        grown = self.delay * min(self.factor ** min(failures - 1, 100), 1e300)
        return min(grown, self.longest) * random.uniform(1, 1 + self.jitter)  # noqa: S311


class RetryAfter(Exception):
    """Raised by a listener: undo this message, and try it again after *seconds*.

    It counts as an attempt, so a message is parked in the end. On an ephemeral channel, whose
    messages are not kept, it is a failure as any other.

    ::

        raise pgpubsub_sql.RetryAfter(int(response.headers["Retry-After"]))
    """

    def __init__(self, seconds: float) -> None:
        if not is_number(seconds) or seconds < 0:
            raise ValueError(f"RetryAfter wants a number of seconds, not {seconds!r}.")
        super().__init__(seconds)
        self.seconds = seconds


class Discard(Exception):
    """Raised by a listener: undo this message, and forget it. Its argument, the reason, is logged.

    ::

        raise pgpubsub_sql.Discard("the order was cancelled meanwhile")
    """


def is_number(value: object) -> bool:
    """Whether *value* is a finite number; True is none."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
