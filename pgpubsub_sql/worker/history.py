"""History: has what a worker claims kept, and corrects that at the end of a batch."""

from __future__ import annotations

import logging
from typing import Any

from django.db import DatabaseError, transaction

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.keeping import TYPES, is_kept, keep_taken, keeping
from pgpubsub_sql.sql import LOCK_NOT_AVAILABLE, render, sqlstate
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.sql.templates import NOTHING
from pgpubsub_sql.worker.batch import Batch
from pgpubsub_sql.worker.outcomes import Claimed, Discarded, Done, Expired, Outcome, storable
from pgpubsub_sql.worker.session import Session, untouched

logger = logging.getLogger("pgpubsub_sql.worker")

CORRECTING = render(
    "queries/correct",
    kept=keep_taken(
        is_unusual="bool_or(outcome <> 'handled')",
        outcomes="array_agg(outcome)",
        reasons="CASE WHEN bool_or(reason <> '') THEN array_agg(reason) END",
        durations="CASE WHEN count(duration) > 0 THEN array_agg(duration) END",
    ),
)
DISCARDING = render(
    "queries/keep_discarded",
    kept=keep_taken(
        is_unusual="true",
        outcomes="array_agg('discarded'::text)",
        reasons="array_agg(%(reason)s::text)",
    ),
)


class History:
    """Keeps the messages of *channel* that are handled, if it says so.

    The statement that claims them keeps them, too: :attr:`kept` goes into it, with the values
    that :meth:`begin` returns. At the end of the batch, :meth:`correct` removes those that go back.
    All that is one transaction.
    """

    def __init__(self, channel: type[BaseChannel], session: Session) -> None:
        self.is_kept = is_kept(channel)
        """Whether there is anything to do."""
        self.kept = keep_taken() if self.is_kept else NOTHING
        self.types = TYPES if self.is_kept else {}
        """Of the parameters of that."""
        self._channel = channel
        self._session = session
        self._values: dict[str, Any] = {}
        """The values for the last claim."""

    def begin(self) -> dict[str, Any]:
        """Return the values for a claim."""
        if self.is_kept:
            self._values = keeping(self._channel)
        return self._values

    def correct(self, batch: Batch) -> None:
        """Write what has become of the messages of *batch*; remove those that are put back."""
        unchanged = batch.count(Done) + batch.count(Expired)
        is_right = not batch.durations and unchanged == len(batch.claimed)
        if not self.is_kept or is_right:
            return
        done = [
            (one.id, _word(outcome), _reason(outcome), batch.durations.get(one.id))
            for one, outcome in zip(batch.claimed, batch.outcomes, strict=True)
            if isinstance(outcome, Done | Discarded | Expired)
        ]
        ids, outcomes, reasons, durations = map(list, zip(*done, strict=True)) if done else [[]] * 4
        values = {"ids": ids, "outcomes": outcomes, "reasons": reasons, "durations": durations}
        self._session.execute("correct", self._values | values, text=CORRECTING)

    def discard(self, claimed: Claimed, outcome: Discarded) -> None:
        """Delete and keep a message that its listener discarded in a transaction of its own."""
        values = untouched(claimed.id, claimed.attempts) | keeping(self._channel)
        values["reason"] = _reason(outcome)
        self._session.execute("keep_discarded", values, text=DISCARDING)


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, Discarded):
        return "discarded"
    return "expired" if isinstance(outcome, Expired) else "handled"


def _reason(outcome: Outcome) -> str:
    return storable(outcome.reason) if isinstance(outcome, Discarded) else ""


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
