"""Take, handle, put back: what happens to messages. Knows no socket."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.filters import ClaimFilter, claim_filter
from pgpubsub_sql.worker.admission import Admission
from pgpubsub_sql.worker.batch import Batch, BatchSizing
from pgpubsub_sql.worker.claims import Claims, UnorderedClaims
from pgpubsub_sql.worker.crash_accounting import account_for, report_crashes
from pgpubsub_sql.worker.dispatch import Dispatcher
from pgpubsub_sql.worker.ephemeral import handle_ephemeral
from pgpubsub_sql.worker.isolation import Escaped, Isolation
from pgpubsub_sql.worker.ordered_claims import OrderedClaims
from pgpubsub_sql.worker.outcomes import (
    Claimed,
    Expired,
    Failure,
    Release,
    after_failure,
    describe,
    postpone,
)
from pgpubsub_sql.worker.raw_notifies import RawNotifies
from pgpubsub_sql.worker.reporting import (
    Attempt,
    attempt_at,
    is_reported,
    log_failure,
    report_outcome,
)
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")


class ChannelState:
    """What belongs to one channel."""

    def __init__(
        self, channel: type[BaseChannel], session: Session, claim_filter: ClaimFilter
    ) -> None:
        self.channel = channel
        self.name = channel.postgres_name()
        self.dispatch = Dispatcher(channel, session)
        self.is_ordered = bool(channel.ordering_fields())
        claims = OrderedClaims if self.is_ordered else UnorderedClaims
        self.claims: Claims = claims(self.name, session, claim_filter)
        self.sizing = BatchSizing(channel.batch_size)
        self.raw_notifies = RawNotifies(channel, session)
        self.unresolved: Callable[[], None] | None = None
        """What is still to be done about a batch of which nobody knows yet what became of it."""


class Delivery:
    """Brings messages of *channels* to their listeners, on Django's connection *using*.

    *stopping* is asked between two messages; once it says yes, what was taken but not reached
    is given back. *renew* is called after the last one, before it is known outside that they were
    handled.
    """

    def __init__(
        self,
        channels: Iterable[type[BaseChannel]],
        *,
        using: str,
        schema: str = "",
        stopping: Callable[[], bool] = lambda: False,
        renew: Callable[[], object] = lambda: None,
        name: str = "",
    ) -> None:
        self.channels = {channel.postgres_name(): channel for channel in channels}
        self.session = Session(using, name=name)
        self.admission = Admission(self.session)
        self.schema = schema
        """The schema this connection works in; messages from others are for others."""
        self.stopping = stopping
        self._renew = renew
        condition = claim_filter(using)
        self._states = {
            name: ChannelState(channel, self.session, condition)
            for name, channel in self.channels.items()
        }
        self.outcomes: Counter[type] = Counter()
        """How many notifications came to which end; those that were handled, to None."""
        self._looked_ahead: str | None = None

    def next_ready(self) -> dict[str, float]:
        """Return the seconds until each channel's next stored notification is ready.

        What was ready at the call before this one is left out. It is in another worker's hands,
        or :meth:`handle_stored` would have taken it since.
        """
        rows = self.session.execute(
            "next_ready", {"channels": list(self.channels), "after": self._looked_ahead}
        )
        if rows:
            self._looked_ahead = rows[0][2]
        return {name: seconds for name, seconds, _ in rows}

    def count_ready(self) -> int:
        """Return how many stored notifications are ready, and 10,001 if they are more."""
        ((count,),) = self.session.execute("count_ready", {"channels": list(self.channels)})
        return int(count)

    def sweep(self) -> None:
        """Delete the long payloads that have expired."""
        self.session.execute("sweep")

    def admits(self, name: str, payload: str, pid: int) -> bool:
        """Whether what a server process has sent by NOTIFY is to be handled, or stored."""
        return self.admission.admits(self.channels[name], payload, pid, self.schema)

    def handle_ephemeral(self, name: str, payload: str) -> None:
        """Handle one message that was sent and not stored. Its failure is logged, and ends it."""
        state = self._states[name]
        handle_ephemeral(state.channel, payload, self.schema, self.session, state.dispatch)

    def store(self, name: str, payloads: Iterable[str]) -> None:
        """Store what came by NOTIFY on a durable channel, now or before what is stored next."""
        raw_notifies = self._states[name].raw_notifies
        raw_notifies.add(payloads, self.schema)
        raw_notifies.store()

    def handle_stored(self, name: str) -> bool:
        """Take, handle and put back one batch of a channel; return whether to look again at once.

        What escapes from a message, a lost connection or a failure at COMMIT, undoes its batch.
        Each message of it is then handled alone: it succeeds, or the failure is its own. So is
        what another worker had in hand when it died.

        Raises what hinders taking, which is no notification's fault.
        """
        state, batch = self._states[name], None
        state.raw_notifies.store()
        if state.unresolved:
            state.unresolved()
        try:
            with self.session.isolation(
                durable=state.channel.batch_size == 1, channel=state.name
            ) as isolation:
                claim = state.claims.take(state.sizing.start())
                if claim.claimed:
                    batch = self._batch(state, claim.claimed, isolation)
                    batch.handle()
                    self._renew()
                    isolation.verify()
                    self._put_back(batch)
                else:
                    charged = account_for(claim.abandoned, state.channel, self.session)
        except Exception as error:  # whatever it is, it is this batch's outcome
            if batch is None:
                raise
            self._rolled_back(state, batch, error, isolation)
            return True
        if batch is None:
            self.outcomes.update(type(one.outcome) for one in charged)
            report_crashes(claim.abandoned, charged, state.name)
            return not claim.is_last
        self._committed(state, batch, isolation)
        return not claim.is_last or batch.count(Release) > 0

    def _batch(self, state: ChannelState, taken: Sequence[Claimed], isolation: Isolation) -> Batch:
        isolation.transaction = taken[0].transaction
        return Batch(
            taken,
            isolation,
            channel=state.channel,
            dispatch=state.dispatch,
            is_ordered=state.is_ordered,
            is_used_up=lambda: self.stopping() or state.sizing.is_used_up(isolation.savepoints),
        )

    def _put_back(self, batch: Batch) -> None:
        rows = batch.rows_to_put_back()
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            self.session.execute("put_back", columns)
        if batch.count(Release):
            # To whoever sleeps what is given back is news.
            self.session.execute("ring", {"channels": [batch.taken[0].channel]})

    def _committed(self, state: ChannelState, batch: Batch, isolation: Isolation) -> None:
        taken, given_back, expired = len(batch.taken), batch.count(Release), batch.count(Expired)
        if not batch.taken[0].alone:  # it says nothing of how quick the others are
            state.sizing.end(taken - given_back, taken, isolation.savepoints)
        if given_back:
            state.claims.rewind()
        if expired:
            message = "%s notifications of channel %s had expired and were dropped"
            extra = {"channel": state.name, "count": expired}
            logger.info(message, expired, state.name, extra=extra)
        self._tell(state, batch.handled)

    def _tell(self, state: ChannelState, handled: Sequence[Attempt]) -> None:
        """Tell what came of messages, for good, and let go of what was done about it elsewhere."""
        self.outcomes.update([type(attempt.outcome) for attempt in handled])
        if is_reported() or logger.isEnabledFor(logging.DEBUG):
            for attempt in handled:
                report_outcome(attempt)
        if is_reported():
            self.session.reclaim(state.name)
        self.session.tidy_up()

    def _rolled_back(
        self, state: ChannelState, batch: Batch, error: Exception, isolation: Isolation
    ) -> None:
        """Decide what becomes of a batch that was rolled back, as it seems.

        If the server is gone, too, the next :meth:`handle_stored` does it.
        """
        state.unresolved = partial(self._rolled_back, state, batch, error, isolation)
        self.session.drop_if_broken()
        self.session.tidy_up()
        state.claims.rewind()
        self._resolve(state, batch, error, isolation)
        state.unresolved = None

    def _resolve(
        self, state: ChannelState, batch: Batch, error: Exception, isolation: Isolation
    ) -> None:
        is_committed = self.session.was_committed(isolation.transaction, isolation.recovered_at)
        if is_committed and isolation.is_committing:  # and it was not acknowledged
            self._committed_after_all(state, batch, isolation)
        elif is_committed or isolation.is_over:  # by a listener: only we know of the rest
            if not isolation.is_over:
                isolation.end()
            batch.fail(_cause(error), is_innocent=isolation.is_lost)
            self._put_back(batch)
            self._committed_after_all(state, batch, isolation)
        elif len(batch.taken) == 1:
            self._failed_alone(state, batch, error, isolation.is_lost)
        else:
            message = (
                "A batch of channel %s was rolled back (messages: %s). None is lost: each will be "
                "handled again, in a transaction of its own."
            )
            count = len(batch.taken)
            extra = {"channel": state.name, "count": count}
            logger.warning(message, state.name, count, exc_info=error, extra=extra)
            self.session.execute("isolate", {"ids": [one.id for one in batch.taken]})

    def _committed_after_all(self, state: ChannelState, batch: Batch, isolation: Isolation) -> None:
        for callback in isolation.callbacks:
            callback()
        self._committed(state, batch, isolation)

    def _failed_alone(
        self, state: ChannelState, batch: Batch, error: Exception, is_lost: bool
    ) -> None:
        """Write down the failure of a notification that is no longer in hand."""
        taken = batch.taken[0]
        cause = _cause(error)
        outcome: Failure = (
            postpone(describe(error))
            if is_lost
            else after_failure(
                taken.attempts, cause, state.channel.retry, unreadable=taken.unreadable
            )
        )
        begun = batch.handled or [attempt_at(state.channel, taken, self.session.using)]
        attempt = begun[0]
        attempt.listener, attempt.error, attempt.outcome = state.dispatch.listener, cause, outcome
        log_failure(attempt, outcome)
        self.session.charge(taken.id, taken.attempts, outcome)
        self._tell(state, [attempt])


def _cause(error: Exception) -> BaseException:
    """Return what a message has done, of which *error* is only the effect on its batch."""
    return error.__cause__ if isinstance(error, Escaped) and error.__cause__ else error
