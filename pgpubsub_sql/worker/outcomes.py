"""What becomes of a notification that was taken."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, assert_never

MAX_ATTEMPTS = 10
RETRY_DELAY = datetime.timedelta(seconds=30)


@dataclasses.dataclass(frozen=True)
class Done:
    """It was handled, and is gone."""


@dataclasses.dataclass(frozen=True)
class GiveBack:
    """It was not reached, and stays as it was."""


@dataclasses.dataclass(frozen=True)
class TryAgain:
    """It failed, and is tried again after a delay."""

    error: str
    after: datetime.timedelta


@dataclasses.dataclass(frozen=True)
class Park:
    """It failed for good, and waits for somebody to replay it."""

    error: str


Outcome = Done | GiveBack | TryAgain | Park


@dataclasses.dataclass(frozen=True)
class Taken:
    """A stored notification in hand, in the order of ``queries/take.sql``."""

    id: int
    channel: str
    payload: str
    created_at: datetime.datetime
    available_at: datetime.datetime | None
    expires_at: datetime.datetime | None
    attempts: int
    last_error: str
    key: str | None


def after_failure(taken: Taken, error: str) -> TryAgain | Park:
    """Return what the policy says of one more failure."""
    if taken.attempts + 1 >= MAX_ATTEMPTS:
        return Park(error)
    return TryAgain(error, RETRY_DELAY)


def row_to_put_back(taken: Taken, outcome: Outcome) -> dict[str, Any] | None:
    """Return the values for ``queries/put_back.sql``, or None if nothing goes back."""
    row = dataclasses.asdict(taken) | {"delay": None}
    match outcome:
        case Done():
            return None
        case GiveBack():
            return row
        case TryAgain(error, after):
            return row | _failed(taken, error) | {"delay": after}
        case Park(error):
            return row | _failed(taken, error) | {"available_at": None}
        case _:
            assert_never(outcome)


def _failed(taken: Taken, error: str) -> dict[str, Any]:
    # What an exception quotes may be anything; PostgreSQL's text holds neither NUL nor surrogates.
    text = error.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return {"attempts": taken.attempts + 1, "last_error": text}
