"""History: has what a worker claims copied, and corrects the copies at the end of a batch."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from django.db import DatabaseError, transaction

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.keeping import copying, is_kept, keeping
from pgpubsub_sql.sql import LOCK_NOT_AVAILABLE, part, render, sqlstate
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.sql.templates import NOTHING
from pgpubsub_sql.worker.batch import Batch
from pgpubsub_sql.worker.outcomes import Claimed, Discarded, Done, Expired, Outcome, storable
from pgpubsub_sql.worker.session import Session, untouched

logger = logging.getLogger("pgpubsub_sql.worker")

CLAIMED = "CASE WHEN expires_at <= statement_timestamp() THEN 'expired' ELSE 'handled' END"
"""The outcome of a message, as far as its claim knows."""


class History:
    """Keeps the messages of *channel* that are handled, if it says so.

    The statement that claims them copies them, too: :attr:`copying` goes into it, with the values
    that :meth:`begin` returns. At the end of the batch, :meth:`correct` removes the copies of those
    that go back. All that is one transaction.
    """

    def __init__(self, channel: type[BaseChannel], session: Session) -> None:
        self.is_kept = is_kept(channel)
        """Whether there is anything to do."""
        self.copying = copying(CLAIMED, "''") if self.is_kept else NOTHING
        self.types = {"slot": "smallint", "keep": "interval"} if self.is_kept else {}
        """Of the parameters of that."""
        discarded = copying("'discarded'", "%(reason)s")
        self._discarding = render("queries/keep_discarded", kept=discarded)
        self._channel = channel
        self._session = session
        self._slot = 0
        """Partition that the last batch was copied to."""

    def begin(self) -> dict[str, Any]:
        """Return the values for a claim."""
        if not self.is_kept:
            return {}
        values = keeping(self._channel)
        self._slot = values["slot"]
        return values

    def correct(self, batch: Batch) -> None:
        """Write what has become of the messages of *batch*; remove those that are put back."""
        is_right = not batch.durations and batch.count(Done) == len(batch.claimed)
        if not self.is_kept or is_right:
            return
        found = list(zip(batch.claimed, batch.outcomes, strict=True))
        done = Done | Discarded | Expired
        if back := [one for one, outcome in found if not isinstance(outcome, done)]:
            self._session.execute("unkeep", self._located(back), text=correction("unkeep"))
        durations = batch.durations
        changed = [
            (one, outcome)
            for one, outcome in found
            if isinstance(outcome, Discarded) or (one.id in durations and isinstance(outcome, done))
        ]
        if changed:
            self._session.execute(
                "correct_kept",
                {
                    **self._located([one for one, _ in changed]),
                    "outcomes": [_word(outcome) for _, outcome in changed],
                    "reasons": [_reason(outcome) for _, outcome in changed],
                    "durations": [durations.get(one.id) for one, _ in changed],
                },
                text=correction("correct_kept"),
            )

    def discard(self, claimed: Claimed, outcome: Discarded) -> None:
        """Delete and keep a message that its listener discarded in a transaction of its own."""
        values = untouched(claimed.id, claimed.attempts) | keeping(self._channel)
        values["reason"] = _reason(outcome)
        self._session.execute("keep_discarded", values, text=self._discarding)

    def _located(self, claimed: list[Claimed]) -> dict[str, Any]:
        return {
            "slot": self._slot,
            "channel": self._channel.postgres_name(),
            "messages": [one.id if one.message is None else one.message for one in claimed],
            "ids": [one.id for one in claimed],
            "created": [one.created_at for one in claimed],
        }


def _word(outcome: Outcome) -> str:
    return "discarded" if isinstance(outcome, Discarded) else "handled"


def _reason(outcome: Outcome) -> str:
    return storable(outcome.reason) if isinstance(outcome, Discarded) else ""


@cache
def correction(name: str) -> str:
    """Return the text of the query *name*, which changes the copies of a batch."""
    return render(f"queries/{name}", copies=part("queries/copies"))


class Retention:
    """Empties partitions of the history, whatever channels this worker listens to."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_told = False
        """Whether the log has said that this role may not."""

    def run(self) -> bool:
        """Empty a partition in which nothing is to be kept any longer, unless it is locked.

        Return whether that was done: there may be more. One at a time, as nothing is handled
        meanwhile.
        """
        for slot, is_permitted in self._session.execute("slots"):
            if not is_permitted:
                self._tell()
                return False
            if self._forget(slot):
                return True
        return False

    def _forget(self, slot: int) -> bool:
        try:
            with transaction.atomic(using=self._session.using):
                self._session.execute("read_committed")
                ((is_emptied,),) = self._session.execute("forget_slot", {"slot": slot})
        except DatabaseError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            message = (
                "Partition %s of the history is to be emptied, but something has locked it, such "
                "as another worker that does it, a backup or a long query; this is tried again "
                "later"
            )
            logger.info(message, slot)
            return False
        if is_emptied:
            logger.info("Emptied partition %s of the history", slot)
        return bool(is_emptied)

    def _tell(self) -> None:
        missing = missing_for(self._session.connection, Role.FORGETTER)
        if missing and not self._is_told:
            self._is_told = True
            message = "Nothing is deleted from the history, which grows for ever. %s. %s"
            logger.warning(message, missing.text, missing.remedy)
