"""Claims: which stored messages of a subscription a worker takes next.

Here those that have waited longest, whatever their keys; ``ordered_claims`` minds the keys.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any, Protocol, TypeAlias

from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.sql import SQL, part, render
from pgpubsub_sql.sql.templates import NOTHING
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.history import History
from pgpubsub_sql.worker.outcomes import Claimed
from pgpubsub_sql.worker.planned import Planned
from pgpubsub_sql.worker.session import Session

CLAIM_BYTES = 4_000_000
"""Most bytes of payloads that are claimed together, unless a single one has more."""
RESTART_SECONDS = 1.0
"""Shortest time between two searches from the start, while there is something after the mark."""
QUICK_SECONDS = 0.001
"""A search from the start that takes no longer may be made at any time."""
RESTART_SHARE = 200
"""After two in a row that took longer than :data:`QUICK_SECONDS`, there is none for this many times
the excess of the shorter. Two may follow each other, the second before the worker sleeps: they take
1 % of the time, and more while dead rows become more."""
RESTART_MESSAGES = 500
"""Most messages that a search from the start claims: more would make it seem slow."""
LONGEST_RESTART_SECONDS = 10.0
"""Longest time between two searches from the start, however long one takes."""


Position: TypeAlias = tuple[str, int]
"""The time, in PostgreSQL's spelling, and the id of a notification."""
START: Position = ("-infinity", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """The result of one claim."""

    claimed: Sequence[Claimed] = ()
    abandoned: Sequence[Claimed] = ()
    """Messages that crashed workers had in flight. They were not claimed, and are still stored."""
    is_last: bool = False
    """Whether there is nothing more to claim."""

    @property
    def is_cut(self) -> bool:
        """Whether it left out messages because it would have become too large."""
        return bool(self.claimed) and self.claimed[0].is_cut


class Claims(Protocol):
    """Claims messages of one subscription, within an open transaction."""

    @property
    def is_rested(self) -> bool:
        """Whether a search from the start may be made."""

    def position(self, *, thorough: bool) -> Position | None:
        """Return after which position the next search begins; None for the start."""

    def looked(self, seconds: float, at: str) -> None:
        """Note that a look from the start has found nothing, after so many *seconds*.

        *at* is when it began, by the server's clock.
        """

    def take(self, limit: int, *, thorough: bool) -> Claim:
        """Claim up to *limit* messages, or one message that has to be handled alone.

        If *thorough*, ``is_last`` is true only once a search from the start has found nothing more.
        """

    def rewind(self, first: Claimed) -> None:
        """Find again what was claimed last, from *first* on, because it was put back."""


TYPES = {"channel": "text", "subscription": "text", "limit": "bigint", "bytes": "bigint"}
"""Of the parameters that all claims have."""
COLUMNS = (
    "id bigint, message bigint, payload text, key text, created_at text, available_at text, "
    "unusual text, is_cut boolean, transaction text"
)


@lru_cache
def statement(name: str, claim_filter: SQL, kept: SQL = NOTHING) -> str:
    """Return the text of the query *name* with the filter in it, and what else it does."""
    unusual = part("queries/unusual")
    return render(
        f"queries/{name}",
        filter=claim_filter,
        filled_to=part("queries/filled_to"),
        size=part("queries/size"),
        found=part("queries/found", given_up=part("queries/given_up")),
        claimed=part("queries/claimed", unusual=unusual),
        abandoned=part("queries/abandoned", unusual=unusual),
        kept=kept,
    )


def claiming(name: str, claim_filter: ClaimFilter, history: History, **types: str) -> Planned:
    """Return what :func:`statement` returns, with the types of its parameters.

    These are *types*, and those that all claims have. It is planned each time if the filter has
    values: nobody knows their types.
    """
    text = statement(name, claim_filter.text, history.kept)
    every = TYPES | types | history.types
    return Planned(name, text, every if not claim_filter.values else None, COLUMNS)


def claim_of(rows: Iterable[Iterable[Any]]) -> Claim:
    """Return the rows of such a statement, which are either all claimed or all abandoned."""
    found = list(starmap(Claimed, rows))
    is_abandoned = bool(found) and found[0].payload is None
    return Claim(abandoned=found) if is_abandoned else Claim(claimed=found)


class Restarts:
    """Decides when a search may begin at the start, by how long the last ones took."""

    def __init__(self) -> None:
        self._took = deque([0.0], maxlen=2)
        """Seconds that the last two took. The shorter counts: the other may have been held up."""
        self._ended_at = 0.0

    @property
    def _rested_at(self) -> float:
        """When the next one may begin, by the monotonic clock."""
        excess = max(0.0, min(self._took) - QUICK_SECONDS)
        return self._ended_at + min(LONGEST_RESTART_SECONDS, RESTART_SHARE * excess)

    def is_due(self, *, is_urgent: bool) -> bool:
        """Whether to begin one now; it is not urgent while there is something after the mark."""
        at = self._rested_at
        if not is_urgent:
            at = max(at, self._ended_at + RESTART_SECONDS)
        return time.monotonic() >= at

    def add(self, seconds: float) -> None:
        """Note that one ends now, which took so long."""
        self._ended_at = time.monotonic()
        self._took.append(seconds)


class UnorderedClaims:
    """Claims a message that has to be handled alone, or else those that have waited longest.

    The search continues at a low-water mark. While any transaction in the cluster is open for long,
    claimed rows remain in the index as dead entries, and each search from its start would have to
    skip all of them again. Messages that become ready *behind* the mark, as they were committed
    late, are found by a search from the start: as often as :class:`Restarts` allows, and before the
    worker sleeps.
    """

    def __init__(
        self,
        lane: Lane,
        session: Session,
        claim_filter: ClaimFilter,
        history: History,
        *,
        keyless: bool = False,
    ) -> None:
        self._session = session
        self._history = history
        self._take = claiming(
            "take", claim_filter, history, after="timestamptz", after_id="bigint", keyless="boolean"
        )
        self._parameters = {**lane._asdict(), "keyless": keyless, **claim_filter.values}
        self._mark: Position | None = None
        self._is_at_end = True
        """Whether there was nothing more after the mark."""
        self._restarts = Restarts()

    @property
    def is_rested(self) -> bool:
        """Whether a search from the start may be made; without a mark, each one begins there."""
        return self._mark is None or self._restarts.is_due(is_urgent=True)

    def position(self, *, thorough: bool) -> Position | None:
        """Return after which position the next search begins; None for the start."""
        if self._mark is None or (thorough and self._is_at_end):
            return None
        return None if self._restarts.is_due(is_urgent=self._is_at_end) else self._mark

    def looked(self, seconds: float, at: str) -> None:
        """Note that a look from the start has found nothing."""
        self._restarts.add(seconds)
        self._mark = self._mark or (at, 0)

    def take(self, limit: int, *, thorough: bool) -> Claim:
        """Claim up to *limit* messages, or one message that has to be handled alone."""
        position = self.position(thorough=thorough)
        limit = limit if position else min(limit, RESTART_MESSAGES)
        started = time.monotonic()
        claim = claim_of(self._execute(limit, position or START))
        claimed = claim.claimed
        if claim.abandoned or (claimed and claimed[0].alone):
            return claim
        if position is None:
            self._restarts.add(time.monotonic() - started)
        if claimed:
            self._mark = (claimed[-1].available_at, claimed[-1].id)
        self._is_at_end = len(claimed) < limit and not claim.is_cut
        has_to_restart = position is not None and self.position(thorough=thorough) is None
        return dataclasses.replace(claim, is_last=self._is_at_end and not has_to_restart)

    def rewind(self, first: Claimed) -> None:
        """Find again what was claimed last, from *first* on, because it was put back."""
        self._is_at_end = False
        if not first.alone:  # such messages are searched for from the start each time
            self._mark = (first.available_at, first.id - 1)

    def _execute(self, limit: int, position: Position) -> Any:
        after, after_id = position
        parameters = {"limit": limit, "bytes": CLAIM_BYTES, "after": after, "after_id": after_id}
        values = self._parameters | parameters | self._history.begin()
        return self._session.execute_planned(self._take, values)
