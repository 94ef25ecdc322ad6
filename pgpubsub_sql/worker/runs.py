"""What a worker takes next of a channel whose messages have an order."""

from __future__ import annotations

import time

from pgpubsub_sql.sql import render
from pgpubsub_sql.worker import claims
from pgpubsub_sql.worker.claims import Claim, UnorderedClaims
from pgpubsub_sql.worker.outcomes import Taken
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.wanted import Wanted

KEYS = 50
"""Locked at most in one transaction: the server has room for some thousands of locks in all."""
STEPS = 1000
"""Keys walked to before other channels have their turn."""


class OrderedClaims:
    """Takes *runs*: of a key that it has locked, what comes first, in order.

    It walks from key to key, and on from there the next time, so that none is left out. A key is
    passed over while another transaction has it locked, and while its first message is waiting.
    What has no key, as people send it with SQL, comes in no order; it has its turn when there are
    no runs, or a second has passed.

    No low-water mark: what failed is to be the first again.
    """

    def __init__(self, name: str, session: Session, wanted: Wanted) -> None:
        self._session = session
        self._keyless = UnorderedClaims(name, session, wanted, keyless=True)
        self._text = render("queries/take_runs", filter=wanted.text)
        self._parameters = {"channel": name, **wanted.values}
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
        return Claim(claim.taken, is_last=is_last)

    def rewind(self) -> None:
        """Look from the start next time."""
        self._keyless.rewind()

    def _take_runs(self, limit: int) -> Claim:
        locked = self._walk(limit)
        taken = self._take_of(locked, limit) if locked else []
        self._is_fruitful = self._is_fruitful or bool(taken)
        if self._after == "":
            self._is_out, self._is_fruitful = not self._is_fruitful, False
        return Claim(taken, is_last=False)

    def _walk(self, limit: int) -> list[str]:
        """Lock keys, the next ones in a round; return them."""
        bounds = {"limit": min(limit, KEYS), "steps": STEPS}
        parameters = self._parameters | bounds | {"after": self._after}
        visited = self._session.execute("lock_keys", parameters)
        locked = [key for key, is_locked in visited if is_locked]
        is_cut = len(locked) == bounds["limit"] or len(visited) == STEPS
        self._after = visited[-1][0] if is_cut else ""
        return locked

    def _take_of(self, locked: list[str], limit: int) -> list[Taken]:
        share = max(1, limit // len(locked))
        parameters = self._parameters | {"keys": locked, "limit": share}
        rows = self._session.execute("take_runs", parameters, text=self._text)
        taken = [Taken(*row) for row in rows]
        # Keys of which the first is to be alone come first: it would never be, behind the others.
        firsts = {one.key: one.alone for one in reversed(taken)}
        return sorted(taken, key=lambda one: not firsts[one.key])
