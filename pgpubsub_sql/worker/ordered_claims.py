"""What a worker takes next of a channel whose messages have an order."""

from __future__ import annotations

import dataclasses
import time
from itertools import takewhile
from typing import NamedTuple

from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.worker import claims
from pgpubsub_sql.worker.claims import Claim, UnorderedClaims, claimed, statement
from pgpubsub_sql.worker.session import Session

KEYS = 50
"""Locked at most in one transaction: the server has room for some thousands of locks in all."""
STEPS = 1000
"""Keys walked to before other channels have their turn."""


class Visited(NamedTuple):
    """A key that was walked to, in the order of ``queries/lock_keys.sql``."""

    key: str
    is_locked: bool
    alone: bool
    """Whether its first notification is to be alone."""


class OrderedClaims:
    """Takes *runs*: of a key that it has locked, what comes first, in order.

    It walks from key to key, and on from there the next time, so that none is left out. A key is
    passed over while another transaction has it locked, and while its first message is waiting.
    A run ends before a message that is to be alone, which is taken by itself when it comes first.
    What has no key, as people send it with SQL, comes in no order; it has its turn when there are
    no runs, or a second has passed.

    No low-water mark: what failed is to be the first again.
    """

    def __init__(self, name: str, session: Session, claim_filter: ClaimFilter) -> None:
        self._session = session
        self._keyless = UnorderedClaims(name, session, claim_filter, keyless=True)
        self._text = statement("take_runs", claim_filter)
        self._parameters = {"channel": name, **claim_filter.values}
        self._looked = 0.0
        """When what has no key had its turn, by the monotonic clock."""
        self._after = ""
        """The key that was walked to last; empty at the start of a round."""
        self._is_fruitful = False
        """Whether this round has brought something."""
        self._is_out = False
        """Whether the last round has brought nothing."""

    def take(self, limit: int) -> Claim:
        """Take up to *limit* notifications."""
        if not self._is_out and time.monotonic() - self._looked < claims.LOOK_SECONDS:
            return self._take_runs(limit)
        claim = self._keyless.take(limit)
        is_last = claim.is_last and self._is_out
        self._looked, self._is_out = time.monotonic(), False
        return dataclasses.replace(claim, is_last=is_last)

    def rewind(self) -> None:
        """Look from the start next time."""
        self._keyless.rewind()

    def _take_runs(self, limit: int) -> Claim:
        locked = self._walk(limit)
        claim = self._take_of(locked, limit) if locked else Claim()
        self._is_fruitful = self._is_fruitful or bool(claim.taken or claim.given_up)
        if self._after == "":
            self._is_out, self._is_fruitful = not self._is_fruitful, False
        return claim

    def _walk(self, limit: int) -> list[Visited]:
        """Lock keys, the next ones in a round; return those to take of together."""
        bounds = {"limit": min(limit, KEYS), "steps": STEPS}
        parameters = self._parameters | bounds | {"after": self._after}
        visited = [Visited(*row) for row in self._session.execute("lock_keys", parameters)]
        locked = [one for one in visited if one.is_locked]
        is_cut = len(locked) == bounds["limit"] or len(visited) == STEPS
        self._after = visited[-1].key if is_cut else ""
        together = list(takewhile(lambda one: not one.alone, locked)) or locked[:1]
        if len(together) < len(locked):
            self._after = together[-1].key
        return together

    def _take_of(self, locked: list[Visited], limit: int) -> Claim:
        alone = locked[0].alone
        share = 1 if alone else max(1, limit // len(locked))
        chosen = {"keys": [one.key for one in locked], "limit": share, "alone": alone}
        rows = self._session.execute("take_runs", self._parameters | chosen, text=self._text)
        return claimed(rows)
