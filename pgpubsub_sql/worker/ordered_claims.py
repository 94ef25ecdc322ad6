"""Claims on a channel with an ordering key: messages with equal keys, one at a time, in order."""

from __future__ import annotations

import dataclasses
import enum
import time
from itertools import takewhile
from typing import NamedTuple

from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import claims
from pgpubsub_sql.worker.claims import Claim, Position, UnorderedClaims, claim_of, claiming
from pgpubsub_sql.worker.history import History
from pgpubsub_sql.worker.outcomes import Claimed
from pgpubsub_sql.worker.planned import Planned
from pgpubsub_sql.worker.session import Session

KEYS = 50
"""Most keys locked in one transaction: the server has room for a few thousand locks in all."""
STEPS = 1000
"""Most keys visited before other channels have their turn."""

LOCK_KEYS = Planned(
    "lock_keys",
    query("lock_keys"),
    {
        "channel": "text",
        "subscription": "text",
        "after": "text",
        "limit": "integer",
        "steps": "integer",
    },
    "key text, is_locked boolean, alone boolean",
)


class Visited(NamedTuple):
    """A key that was visited, in the column order of the query ``lock_keys``."""

    key: str
    is_locked: bool
    alone: bool
    """Whether its first message has to be handled alone."""


class Round(enum.Enum):
    """A round over all keys, and what it has brought so far."""

    NOTHING_YET = enum.auto()
    """The round is under way, and no key had a message to claim."""
    SOMETHING = enum.auto()
    """The round is under way, and some key had one."""
    EXHAUSTED = enum.auto()
    """The round has ended, and no key had one. Messages without a key have their turn next."""


class OrderedClaims:
    """Locks keys and claims the first messages of each, in order.

    It goes from key to key in rounds (see :class:`Round`), and continues where the last claim
    stopped, so that no key is left out. It skips a key that another transaction has locked, and a
    key whose first message is not ready. The messages claimed for a key end before one that has to
    be handled alone; that one is claimed by itself once it is the first.

    Messages without a key, which SQL can send, have no order. They have their turn when a round is
    exhausted, or a second has passed.

    There is no low-water mark, because a message that failed has to come first again.
    """

    def __init__(
        self, lane: Lane, session: Session, claim_filter: ClaimFilter, history: History
    ) -> None:
        self._session = session
        self._history = history
        self._keyless = UnorderedClaims(lane, session, claim_filter, history, keyless=True)
        self._take = claiming("take_ordered", claim_filter, history, keys="text[]", alone="boolean")
        self._parameters = {**lane._asdict(), **claim_filter.values}
        self._keyless_at = 0.0
        """When messages without a key had their turn, by the monotonic clock."""
        self._after = ""
        """The key that was visited last; empty at the start of a round."""
        self._round = Round.NOTHING_YET

    @property
    def is_rested(self) -> bool:
        """Return True: each search begins at the start, so one more to fall asleep is no matter."""
        return True

    def position(self, *, thorough: bool) -> Position | None:
        """Return None: each search begins at the start."""
        return None

    def looked(self, seconds: float, at: str) -> None:
        """Note that a look from the start has found nothing."""
        self._keyless.looked(seconds, at)

    def take(self, limit: int, *, thorough: bool) -> Claim:
        """Claim up to *limit* messages, or one message that has to be handled alone."""
        is_keyless_due = time.monotonic() - self._keyless_at >= claims.RESTART_SECONDS
        if self._round is Round.EXHAUSTED or is_keyless_due:
            return self._take_keyless(limit, thorough)
        return self._take_keyed(limit)

    def rewind(self, first: Claimed) -> None:
        """Find again what was claimed last, from *first* on, because it was put back."""
        if first.key is None:
            self._keyless.rewind(first)

    def _take_keyless(self, limit: int, thorough: bool) -> Claim:
        claim = self._keyless.take(limit, thorough=thorough)
        self._keyless_at = time.monotonic()
        if self._round is not Round.EXHAUSTED:
            return dataclasses.replace(claim, is_last=False)
        self._round = Round.NOTHING_YET
        return claim

    def _take_keyed(self, limit: int) -> Claim:
        keys = self._lock_keys(limit)
        claim = self._take_of(keys, limit) if keys else Claim()
        if claim.claimed or claim.abandoned:
            self._round = Round.SOMETHING
        if self._after == "":
            self._end_round()
        return claim

    def _end_round(self) -> None:
        is_exhausted = self._round is Round.NOTHING_YET
        self._round = Round.EXHAUSTED if is_exhausted else Round.NOTHING_YET

    def _lock_keys(self, limit: int) -> list[Visited]:
        """Lock the next keys of the round; return those to claim messages of."""
        bounds = {"limit": min(limit, KEYS), "steps": STEPS}
        parameters = self._parameters | bounds | {"after": self._after}
        visited = [Visited(*row) for row in self._session.execute_planned(LOCK_KEYS, parameters)]
        locked = [one for one in visited if one.is_locked]
        is_cut = len(locked) == bounds["limit"] or len(visited) == STEPS
        self._after = visited[-1].key if is_cut else ""
        together = list(takewhile(lambda one: not one.alone, locked)) or locked[:1]
        if len(together) < len(locked):
            self._after = together[-1].key
        return together

    def _take_of(self, keys: list[Visited], limit: int) -> Claim:
        """Claim the first messages of *keys*, an equal share of *limit* for each."""
        alone = keys[0].alone
        share = 1 if alone else max(1, limit // len(keys))
        chosen = {
            "keys": [one.key for one in keys],
            "limit": share,
            "bytes": claims.CLAIM_BYTES,
            "alone": alone,
        }
        values = self._parameters | chosen | self._history.begin()
        return claim_of(self._session.execute_planned(self._take, values))
