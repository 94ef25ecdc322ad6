"""What a worker takes next of a channel, and from where on it looks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.sql import part, render
from pgpubsub_sql.worker.outcomes import Claimed
from pgpubsub_sql.worker.session import Session

LOOK_SECONDS = 1.0
"""How often at least a look begins at the start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """What was taken."""

    taken: Sequence[Claimed] = ()
    given_up: Sequence[Claimed] = ()
    """What others had taken, and gave up without account. It stays where it is."""
    is_last: bool = False
    """Whether there was nothing more to take."""


class Claims(Protocol):
    """Takes notifications of one channel, within an open transaction."""

    def take(self, limit: int) -> Claim:
        """Take up to *limit* notifications, or one that is to be alone."""

    def rewind(self) -> None:
        """Look from the start next time: something there has come back."""


def statement(name: str, claim_filter: ClaimFilter) -> str:
    """Return the text of ``queries/<name>.sql``, which claims what the filter admits."""
    given_up = part("queries/given_up")
    return render(f"queries/{name}", filter=claim_filter.text, given_up=given_up)


def claimed(rows: Iterable[Iterable[Any]]) -> Claim:
    """Return what such a statement has returned: what it took, or what was given up."""
    found = [Claimed(*row) for row in rows]
    is_given_up = bool(found) and found[0].payload is None
    return Claim(given_up=found) if is_given_up else Claim(taken=found)


class UnorderedClaims:
    """Takes what is to be alone, then what has waited longest, and moves on from there.

    The position is a low-water mark. While a long transaction is open anywhere in the cluster, what
    was taken stays in the index, dead; beginning each look at its start would mean to pass over all
    of it again and again. What becomes ready *behind* the mark, given back or committed late, is
    found by the looks that begin at the start: one a second, and one before there is said to be
    nothing more.
    """

    def __init__(
        self, name: str, session: Session, claim_filter: ClaimFilter, *, keyless: bool = False
    ) -> None:
        self._session = session
        self._text = statement("take", claim_filter)
        self._parameters = {"channel": name, "keyless": keyless, **claim_filter.values}
        self._mark: tuple[str, int] | None = None
        self._started = 0.0
        """When a look began at the start, by the monotonic clock."""

    def take(self, limit: int) -> Claim:
        """Take up to *limit* notifications, or one that is to be alone."""
        from_start = self._mark is None or time.monotonic() - self._started >= LOOK_SECONDS
        if from_start:
            self._mark, self._started = None, time.monotonic()
        claim = claimed(self._execute(limit))
        taken = claim.taken
        if claim.given_up or (taken and taken[0].alone):
            return claim
        is_full = len(taken) == limit
        self._mark = (taken[-1].available_at, taken[-1].id) if is_full else None
        return dataclasses.replace(claim, is_last=from_start and not is_full)

    def rewind(self) -> None:
        """Look from the start next time."""
        self._mark = None

    def _execute(self, limit: int) -> Any:
        after, after_id = self._mark or ("-infinity", 0)
        parameters = {"limit": limit, "after": after, "after_id": after_id}
        return self._session.execute("take", self._parameters | parameters, text=self._text)
