"""Claims: which stored messages of a channel a worker takes next, in any order."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.sql import part, render
from pgpubsub_sql.worker.outcomes import Claimed
from pgpubsub_sql.worker.session import Session

RESTART_SECONDS = 1.0
"""Longest time between two claims that search from the start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """The result of one claim."""

    claimed: Sequence[Claimed] = ()
    abandoned: Sequence[Claimed] = ()
    """Messages that crashed workers had in flight. They were not claimed, and are still stored."""
    is_last: bool = False
    """Whether there is nothing more to claim."""


class Claims(Protocol):
    """Claims messages of one channel, within an open transaction."""

    def take(self, limit: int) -> Claim:
        """Claim up to *limit* messages, or one message that has to be handled alone."""

    def rewind(self) -> None:
        """Search from the start next time, because messages were put back."""


def statement(name: str, claim_filter: ClaimFilter) -> str:
    """Return the text of the query *name* with the filter in it."""
    given_up = part("queries/given_up")
    return render(f"queries/{name}", filter=claim_filter.text, given_up=given_up)


def claim_of(rows: Iterable[Iterable[Any]]) -> Claim:
    """Return the rows of such a statement, which are either all claimed or all abandoned."""
    found = [Claimed(*row) for row in rows]
    is_abandoned = bool(found) and found[0].payload is None
    return Claim(abandoned=found) if is_abandoned else Claim(claimed=found)


class UnorderedClaims:
    """Claims a message that has to be handled alone, or else those that have waited longest.

    The search continues at a low-water mark. While any transaction in the cluster is open for long,
    claimed rows remain in the index as dead entries, and each search from its start would have to
    skip all of them again. Messages that become ready *behind* the mark, because they were released
    or committed late, are found by a search from the start: once a second, and before the worker
    concludes that there is nothing more.
    """

    def __init__(
        self, name: str, session: Session, claim_filter: ClaimFilter, *, keyless: bool = False
    ) -> None:
        self._session = session
        self._text = statement("take", claim_filter)
        self._parameters = {"channel": name, "keyless": keyless, **claim_filter.values}
        self._mark: tuple[str, int] | None = None
        self._restarted_at = 0.0
        """When a search began at the start, by the monotonic clock."""

    def take(self, limit: int) -> Claim:
        """Claim up to *limit* messages, or one message that has to be handled alone."""
        is_due = time.monotonic() - self._restarted_at >= RESTART_SECONDS
        from_start = self._mark is None or is_due
        if from_start:
            self._mark, self._restarted_at = None, time.monotonic()
        claim = claim_of(self._execute(limit))
        claimed = claim.claimed
        if claim.abandoned or (claimed and claimed[0].alone):
            return claim
        is_full = len(claimed) == limit
        self._mark = (claimed[-1].available_at, claimed[-1].id) if is_full else None
        return dataclasses.replace(claim, is_last=from_start and not is_full)

    def rewind(self) -> None:
        """Search from the start next time."""
        self._mark = None

    def _execute(self, limit: int) -> Any:
        after, after_id = self._mark or ("-infinity", 0)
        parameters = {"limit": limit, "after": after, "after_id": after_id}
        return self._session.execute("take", self._parameters | parameters, text=self._text)
