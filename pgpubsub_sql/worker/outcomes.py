"""Outcomes: what becomes of a message that was claimed."""

from __future__ import annotations

import dataclasses
import random
import traceback
from typing import Any, NamedTuple, assert_never

import msgspec

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.retry import Discard, Retry, RetryAfter
from pgpubsub_sql.rows import Unbuildable
from pgpubsub_sql.sql import sqlstate
from pgpubsub_sql.sql.own_tables import MAX_REASON

INNOCENT = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: the same work may succeed a moment later."""
READ_AGAIN_SECONDS = (5,) * 60
"""Delays of a message that this version of the code cannot read; it waits for a worker of another
version. It is parked after all of them, about five minutes. They are short and many, because most
workers may have the wrong version, and chance decides which one claims it next."""
POSTPONED_SECONDS = (0.5, 2.0)
"""Bounds of the random delay of a postponed message, which separates it from its opponent."""


class StoredError(NamedTuple):
    """An exception, as it is stored."""

    reason: str
    """Its class, with the module unless that is ``builtins``, as in a traceback."""
    text: str
    """Its traceback; for unreadable data the message."""


@dataclasses.dataclass(frozen=True)
class Done:
    """It was handled, and is deleted."""


@dataclasses.dataclass(frozen=True)
class Discarded:
    """Its listener discarded it; it is deleted."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Expired:
    """It had expired when it was claimed; it is deleted."""


@dataclasses.dataclass(frozen=True)
class Release:
    """It was not reached, and is stored again as it was."""


@dataclasses.dataclass(frozen=True)
class Postpone:
    """It failed for no fault of its own, and is tried again shortly."""

    error: StoredError
    seconds: float


@dataclasses.dataclass(frozen=True)
class ReadAgain:
    """This version of the code could not read it; it waits for a worker of another version."""

    error: StoredError
    seconds: float
    times: int
    """Number of times that it could not be read, including this one."""


@dataclasses.dataclass(frozen=True)
class TryAgain:
    """It failed, and is tried again after a delay."""

    error: StoredError
    seconds: float


@dataclasses.dataclass(frozen=True)
class Park:
    """It failed for good; it is kept until somebody replays or discards it."""

    error: StoredError


Failure = Postpone | ReadAgain | TryAgain | Park | Discarded
Outcome = Done | Expired | Release | Failure


class Unreadable(PayloadError):
    """This version of the code cannot read the message; another version may."""


class Undecodable(PayloadError):
    """No version of the code is likely to read the message."""


class Unusual(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a stored notification that seldom differ from their defaults."""

    attempts: int = 0
    unreadable: int = 0
    last_error: str = ""
    reason: str = ""
    failed_at: str | None = None
    expires_at: str | None = None
    alone: bool = False
    expired: bool = False


_USUAL = Unusual()
_unusual = msgspec.json.Decoder(Unusual)


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A stored notification in flight, in the column order of the query ``claimed``."""

    id: int
    message: int | None
    """Number that it shares with its copies for other subscriptions; None stands for its id."""
    payload: str
    """JSON; None for an abandoned message, whose payload may be what killed a worker."""
    key: str | None
    created_at: str
    available_at: str
    """Times, that in *unusual* too, are in PostgreSQL's spelling, so that they are stored again
    unchanged: Python has no infinity, and without USE_TZ it has no name for the hour that a clock
    change repeats."""
    unusual: str | None
    """JSON of :class:`Unusual`; None if it has the defaults."""
    is_cut: bool
    """Whether this claim left out notifications, because it would have become too large."""
    transaction: str
    """Id of the transaction in which it was claimed."""

    @property
    def rest(self) -> Unusual:
        """The other columns."""
        return _USUAL if self.unusual is None else _unusual.decode(self.unusual)

    @property
    def alone(self) -> bool:
        """Whether it is handled in a transaction of its own."""
        return self.rest.alone

    @property
    def attempts(self) -> int:
        """Number of attempts that failed before."""
        return self.rest.attempts

    def row(self) -> dict[str, Any]:
        """Return the values for the query ``put_back`` that store it again as it was."""
        rest = self.rest
        return {
            "id": self.id,
            "message": self.message,
            "payload": self.payload,
            "created_at": self.created_at,
            "available_at": self.available_at,
            "expires_at": rest.expires_at,
            "attempts": rest.attempts,
            "unreadable": rest.unreadable,
            "last_error": rest.last_error,
            "reason": rest.reason,
            "failed_at": rest.failed_at,
            "key": self.key,
            "alone": rest.alone,
            "delay": None,
            "has_failed": False,
        }


def after_failure(
    attempts: int, error: BaseException, retry: Retry, *, unreadable: int = 0
) -> Failure:
    """Return the outcome of a message that failed with *error* after *attempts* failed attempts.

    *unreadable* is the number of times that it could not even be read.
    """
    stored = describe(error)
    if isinstance(error, Discard):
        return Discarded(str(error))
    if isinstance(error, Unreadable) and unreadable < len(READ_AGAIN_SECONDS):
        return ReadAgain(stored, READ_AGAIN_SECONDS[unreadable], unreadable + 1)
    if isinstance(error, Unreadable | Undecodable):
        return Park(stored)
    if sqlstate(error) in INNOCENT:
        return postpone(stored)
    if attempts + 1 >= retry.max_attempts:
        return Park(stored)
    asked = error.seconds if isinstance(error, RetryAfter) else None
    return TryAgain(stored, retry.seconds(attempts + 1) if asked is None else asked)


def postpone(error: StoredError) -> Postpone:
    """Return the outcome of a message that failed for no fault of its own."""
    return Postpone(error, random.uniform(*POSTPONED_SECONDS))  # noqa: S311


def describe(error: BaseException) -> StoredError:
    """Return what to store for *error*."""
    return StoredError(_reason(type(error)), storable(_text(error)))


def _reason(kind: type[BaseException]) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return storable(f"{module}{kind.__qualname__}")[:MAX_REASON]


def _text(error: BaseException) -> str:
    if isinstance(error, Unreadable | Undecodable) and not isinstance(error.__cause__, Unbuildable):
        return str(error)
    return "".join(traceback.format_exception(error))


def storable(text: str) -> str:
    """Return *text* with NUL and surrogates escaped, which PostgreSQL cannot store."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def next_step(outcome: Failure) -> str:
    """Return what happens next, in words for the log."""
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


def row_to_put_back(claimed: Claimed, outcome: Outcome) -> dict[str, Any] | None:
    """Return the values for the query ``put_back``, or None for a message that is deleted."""
    match outcome:
        case Done() | Discarded() | Expired():
            return None
        case Release():
            return claimed.row()
        case Postpone() | ReadAgain() | TryAgain() | Park():
            return claimed.row() | changes(claimed.attempts, outcome)
        case _:
            assert_never(outcome)


def changes(attempts: int, outcome: Postpone | ReadAgain | TryAgain | Park) -> dict[str, Any]:
    """Return the columns that a failure changes, and ``delay``, in seconds."""
    reason, text = outcome.error
    failed = {"last_error": text, "reason": reason, "has_failed": True}
    match outcome:
        case Postpone(_, seconds):
            return failed | {"delay": seconds}
        case ReadAgain(_, seconds, times):
            return failed | {"delay": seconds, "unreadable": times}
        case TryAgain(_, seconds):
            return failed | {"attempts": attempts + 1, "delay": seconds}
        case Park():
            return failed | {"attempts": attempts + 1, "available_at": None}
        case _:
            assert_never(outcome)
