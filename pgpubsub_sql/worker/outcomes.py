"""What becomes of a notification that was taken."""

from __future__ import annotations

import dataclasses
import random
import traceback
from typing import Any, NamedTuple, assert_never

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.retry import Discard, Retry, RetryAfter
from pgpubsub_sql.rows import Unbuildable
from pgpubsub_sql.sql import sqlstate

INNOCENT = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: the same work may well succeed a moment later."""
READ_AGAIN_SECONDS = (5,) * 60
"""How long a message that this version of the code cannot read waits for a worker of another
version, each time. After that, some five minutes, it is parked. Many short waits: most workers may
be of the wrong version, and who is the next to take it is chance."""
POSTPONED_SECONDS = (0.5, 2.0)
"""How long what failed for no fault of its own waits: at random, apart from its opponent."""


@dataclasses.dataclass(frozen=True)
class Done:
    """It was handled, and is gone."""


@dataclasses.dataclass(frozen=True)
class Discarded:
    """Its listener wants to hear no more of it; it is gone."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Expired:
    """Its time had passed when it was taken; it is gone."""


@dataclasses.dataclass(frozen=True)
class Release:
    """It was not reached, and stays as it was."""


@dataclasses.dataclass(frozen=True)
class Postpone:
    """It failed for no fault of its own, and is tried again in a moment."""

    error: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class ReadAgain:
    """It could not be read by this version of the code, and waits for a worker of another."""

    error: str
    seconds: float
    times: int
    """How often it could not be read, this time included."""


@dataclasses.dataclass(frozen=True)
class TryAgain:
    """It failed, and is tried again after a delay."""

    error: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Park:
    """It failed for good, and waits for somebody to replay it."""

    error: str


Failure = Postpone | ReadAgain | TryAgain | Park | Discarded
Outcome = Done | Expired | Release | Failure


class Unreadable(PayloadError):
    """A message that this version of the code cannot read; another may."""


class Undecodable(PayloadError):
    """A message that no other version of the code can be expected to read."""


class Claimed(NamedTuple):
    """A stored notification in hand, in the order of the query ``take``."""

    id: int
    channel: str
    payload: str
    """JSON. NULL of what was given up, as it may be what killed a worker."""
    created_at: str
    available_at: str
    expires_at: str | None
    """Times as PostgreSQL spells them, so that they go back as they came: Python has no infinity,
    and without USE_TZ no name for the hour that clocks repeat."""
    attempts: int
    unreadable: int
    last_error: str
    key: str | None
    alone: bool
    expired: bool
    transaction: str
    """Id of the transaction in which it was taken."""


def after_failure(
    attempts: int, error: BaseException, retry: Retry, *, unreadable: int = 0
) -> Failure:
    """Return what becomes of a message that had failed *attempts* times before this *error*.

    *unreadable* is how often it could not even be read.
    """
    text = describe(error)
    if isinstance(error, Discard):
        return Discarded(str(error))
    if isinstance(error, Unreadable) and unreadable < len(READ_AGAIN_SECONDS):
        return ReadAgain(text, READ_AGAIN_SECONDS[unreadable], unreadable + 1)
    if isinstance(error, Unreadable | Undecodable):
        return Park(text)
    if sqlstate(error) in INNOCENT:
        return postpone(text)
    if attempts + 1 >= retry.max_attempts:
        return Park(text)
    asked = error.seconds if isinstance(error, RetryAfter) else None
    return TryAgain(text, retry.seconds(attempts + 1) if asked is None else asked)


def postpone(error: str) -> Postpone:
    """Return the outcome of what failed for no fault of its own."""
    return Postpone(error, random.uniform(*POSTPONED_SECONDS))  # noqa: S311


def describe(error: BaseException) -> str:
    """Return what is kept of *error*: of bad data the message, else the traceback."""
    if isinstance(error, Unreadable | Undecodable) and not isinstance(error.__cause__, Unbuildable):
        return storable(str(error))
    return storable("".join(traceback.format_exception(error)))


def storable(text: str) -> str:
    """Return *text* without NUL and surrogates, which PostgreSQL's text holds neither of."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def next_step(outcome: Failure) -> str:
    """Say what happens next, for the log."""
    match outcome:
        case Discarded():
            return "is discarded, as its listener asked"
        case Postpone(_, seconds):
            return (
                f"will be tried again in {seconds:.1f} seconds, without counting as an attempt, as "
                "this was no fault of its own"
            )
        case ReadAgain(_, seconds):
            return (
                f"waits {seconds:g} seconds for a worker of another version, as this one cannot "
                "read it; it is parked if none can within about five minutes"
            )
        case TryAgain(_, seconds):
            return f"will be retried in {seconds:.1f} seconds"
        case Park():
            return "is parked until you run `manage.py pgpubsub replay`"
        case _:
            assert_never(outcome)


def row_to_put_back(taken: Claimed, outcome: Outcome) -> dict[str, Any] | None:
    """Return the values for the query ``put_back``, or None if nothing goes back."""
    match outcome:
        case Done() | Discarded() | Expired():
            return None
        case Release():
            return taken._asdict() | {"delay": None}
        case Postpone() | ReadAgain() | TryAgain() | Park():
            return taken._asdict() | {"delay": None} | charged(taken.attempts, outcome)
        case _:
            assert_never(outcome)


def charged(attempts: int, outcome: Postpone | ReadAgain | TryAgain | Park) -> dict[str, Any]:
    """Return the columns that a failure changes, with the seconds until the next attempt."""
    match outcome:
        case Postpone(error, seconds):
            return {"last_error": error, "delay": seconds}
        case ReadAgain(error, seconds, times):
            return {"last_error": error, "delay": seconds, "unreadable": times}
        case TryAgain(error, seconds):
            return {"attempts": attempts + 1, "last_error": error, "delay": seconds}
        case Park(error):
            return {"attempts": attempts + 1, "last_error": error, "available_at": None}
        case _:
            assert_never(outcome)
