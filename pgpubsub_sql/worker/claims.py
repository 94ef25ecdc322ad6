"""What a worker takes next of a channel, and from where on it looks."""

from __future__ import annotations

import dataclasses
import time
from datetime import datetime
from typing import Any, Protocol

from pgpubsub_sql.sql import render
from pgpubsub_sql.worker.outcomes import Taken
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.wanted import Wanted

LOOK_SECONDS = 1.0
"""How often at least a look begins at the start."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """What was taken."""

    taken: list[Taken]
    is_last: bool
    """Whether there was nothing more to take."""


class Claims(Protocol):
    """Takes notifications of one channel, within an open transaction."""

    def take(self, limit: int) -> Claim:
        """Take up to *limit* notifications."""

    def rewind(self) -> None:
        """Look from the start next time: something there has come back."""


class UnorderedClaims:
    """Takes what has waited longest, and moves on from there.

    The position is a low-water mark. While a long transaction is open anywhere in the cluster, what
    was taken stays in the index, dead; beginning each look at its start would mean to pass over all
    of it again and again. What becomes ready *behind* the mark, given back or committed late, is
    found by the looks that begin at the start: one a second, and one before there is said to be
    nothing more.
    """

    def __init__(
        self, name: str, session: Session, wanted: Wanted, *, keyless: bool = False
    ) -> None:
        self._session = session
        self._text = render("queries/take", filter=wanted.text)
        self._parameters = {"channel": name, "keyless": keyless, **wanted.values}
        self._mark: tuple[datetime, int] | None = None
        self._started = 0.0
        """When a look began at the start, by the monotonic clock."""

    def take(self, limit: int) -> Claim:
        """Take up to *limit* notifications."""
        from_start = self._mark is None or time.monotonic() - self._started >= LOOK_SECONDS
        if from_start:
            self._mark, self._started = None, time.monotonic()
        taken = [Taken(*row) for row in self._execute(limit)]
        is_full = len(taken) == limit
        self._mark = (taken[-1].available_at, taken[-1].id) if is_full else None
        return Claim(taken, is_last=from_start and not is_full)

    def rewind(self) -> None:
        """Look from the start next time."""
        self._mark = None

    def _execute(self, limit: int) -> Any:
        after, after_id = self._mark or ("-infinity", 0)
        parameters = {"limit": limit, "after": after, "after_id": after_id}
        return self._session.execute("take", self._parameters | parameters, text=self._text)
