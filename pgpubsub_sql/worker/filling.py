"""Filling: a subscription that begins with the history gets what was sent before it was registered.

What a statement stores that began before the registration is not stored for the subscription. It is
copied, once all such statements are committed, message by message in the order of their numbers.
Meanwhile workers take what is stored for the subscription only as far as it is filled, so that
whatever lies beyond is there to be seen, and is not copied a second time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping

from pgpubsub_sql.channels import BaseChannel, is_notified
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import check_role
from pgpubsub_sql.subscriptions import Filled, Lane
from pgpubsub_sql.worker.outages import cause, first_line, needs_traceback
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

STEP_MESSAGES = 1000
"""Most messages that are copied at once, so that transactions stay short."""
LOOK_SECONDS = 5.0
"""Time between two looks whether somebody has registered a subscription that is to be filled, or
has resumed one that is paused."""
BARRIER_SECONDS = 1.0
"""Time between two looks whether transactions have ended that began before the registration."""
BUSY_SECONDS = 0.05
"""Time until the next step while the listeners have not handled what was copied."""


class Filler:
    """Fills those of *lanes* that are registered to be filled, a step at a time.

    Workers do it one after the other: each step begins where the last one has ended, whoever made
    it, so that one that dies is no matter.
    """

    def __init__(
        self,
        channels: Mapping[str, type[BaseChannel]],
        lanes: Iterable[Lane],
        session: Session,
    ) -> None:
        self._channels = channels
        self._lanes = set(lanes)
        self._session = session
        self._barriers: dict[tuple[Lane, str], str] = {}
        """By registration, a subscription and a transaction, that every statement sees by now: what
        has to end."""
        self._told: set[tuple[Lane, str]] = set()
        """Registrations of which the log says that transactions hold them up."""
        self.unfinished: set[Lane] = set()
        """Those that were being filled at the last look, without those that are paused."""
        self._due = math.inf
        """When to look again, by the monotonic clock."""
        self._is_declared = bool(self._lanes & registry.lanes_from_history())
        self._look_seconds = LOOK_SECONDS if self._is_declared else math.inf

    def check(self) -> None:
        """Raise :class:`NotReady` if something may have to be filled that this role may not."""
        if self._is_declared:
            check_role(self._session.connection, Role.FILLER)

    def start(self) -> None:
        """Look at once, on whatever server it is now."""
        self._barriers.clear()
        self.unfinished.clear()
        self._due = 0.0

    @property
    def patience(self) -> float:
        """Seconds until the next step."""
        return self._due - time.monotonic()

    def fill(self) -> set[Lane]:
        """Make a step if it is time; return the subscriptions that got on.

        What fails is logged, and tried again later.
        """
        if self.patience > 0:
            return set()
        try:
            return self._step()
        except Exception as error:
            self._due = time.monotonic() + LOOK_SECONDS
            message = (
                "Filling subscriptions with what was sent before they were registered failed: %s; "
                "it is tried again in %g seconds"
            )
            reason = cause(self._session.using, error)
            trace = needs_traceback(reason)
            logger.warning(message, first_line(reason), LOOK_SECONDS, exc_info=trace)
            self._session.drop_if_broken()
            return set()

    def _step(self) -> set[Lane]:
        pauses: dict[Lane, float] = {}
        filling = self._filling()
        self.unfinished = {one.lane for one in filling if not one.is_paused}
        for one in filling:
            pauses[one.lane] = self._advance(one)
        self._due = time.monotonic() + min([*pauses.values(), self._look_seconds])
        changed = {lane for lane, pause in pauses.items() if not pause}
        names = {lane.channel for lane in changed if is_notified(self._channels[lane.channel])}
        if names:  # other workers may have gone to sleep
            self._session.execute("ring", {"channels": list(names)})
        return changed

    def _filling(self) -> list[Filled]:
        rows = [Filled(*row) for row in self._session.execute("filling")]
        return [one for one in rows if one.lane in self._lanes]

    def _advance(self, one: Filled) -> float:
        """Make the next step of a subscription; return how long to wait before another one."""
        if one.is_paused:
            return LOOK_SECONDS
        return self._begin(one) if one.fill_until is None else self._copy(one)

    def _begin(self, one: Filled) -> float:
        """Learn how far to fill, once nobody can store any more as before the registration.

        Returns how long to wait before that is tried again.
        """
        lane, registration = one.lane, (one.lane, one.fill_xid)
        if registration not in self._barriers:
            rows = self._session.execute("is_registration_seen", lane._asdict())
            if rows != [(True,)]:
                return self._hold_up(one)
            # Who has stored as before is in a transaction that has an id by now.
            ((self._barriers[registration],),) = self._session.execute("next_transaction")
        before = {"before": self._barriers[registration]}
        if self._session.execute("have_ended", before) != [(True,)]:
            return self._hold_up(one)
        self._session.execute("begin_filling", lane._asdict() | {"fill_xid": one.fill_xid})
        del self._barriers[registration]
        return 0.0

    def _hold_up(self, one: Filled) -> float:
        if (registration := (one.lane, one.fill_xid)) not in self._told:
            self._told.add(registration)
            logger.info("%s", one, extra=one.lane._asdict())
        return BARRIER_SECONDS

    def _copy(self, one: Filled) -> float:
        """Copy some messages; return how long to wait for the next ones."""
        values = one.lane._asdict() | {"limit": STEP_MESSAGES, "filled_to": one.filled_to}
        ((waiting,),) = self._session.execute("count_filled", values)
        if waiting >= STEP_MESSAGES:
            return BUSY_SECONDS
        rows = self._session.execute("fill", values | {"fill_until": one.fill_until})
        if not rows:
            return BUSY_SECONDS  # another worker does it
        ((copied, up_to, is_last),) = rows
        _log(one.lane, copied, up_to, is_last=is_last)
        return 0.0


def _log(lane: Lane, copied: int, up_to: int, *, is_last: bool) -> None:
    message = "Filled %s with %s messages from before its registration, up to number %s"
    end = ", which is the last" if is_last else ""
    logger.info(message + end, lane, copied, up_to, extra=lane._asdict())
