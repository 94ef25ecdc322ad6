"""Delivery: claims messages, has them handled, and settles the result. Knows no socket."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pgpubsub_sql.channels import BaseChannel, is_notified
from pgpubsub_sql.filters import ClaimFilter, claim_filter
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane, columns
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.batch import Batch, BatchLimits, BatchSizing
from pgpubsub_sql.worker.claims import START, Claims, UnorderedClaims
from pgpubsub_sql.worker.counters import Counters
from pgpubsub_sql.worker.crash_accounting import account_for, report_crashes
from pgpubsub_sql.worker.dispatch import Dispatcher
from pgpubsub_sql.worker.ephemeral import Ephemeral
from pgpubsub_sql.worker.history import History, Retention
from pgpubsub_sql.worker.isolation import Escaped, Isolation
from pgpubsub_sql.worker.list_batch import SLOWEST_CALLS, ListBatch, ListSizing
from pgpubsub_sql.worker.ordered_claims import OrderedClaims
from pgpubsub_sql.worker.outcomes import (
    Claimed,
    Discarded,
    Done,
    Expired,
    Release,
    describe,
    postpone,
)
from pgpubsub_sql.worker.planned import Planned, PlansGone
from pgpubsub_sql.worker.pulse import Pulse
from pgpubsub_sql.worker.raw_notifies import RawNotifies
from pgpubsub_sql.worker.reporting import is_observed, is_reported, log_failure, report_outcome
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.signatures import SignatureCheck

logger = logging.getLogger("pgpubsub_sql.worker")

_LANES = {"channels": "text[]", "subscriptions": "text[]"}
_DUE = "channel text, subscription text, seconds float8, at text"
LOOK = Planned(
    "look",
    query("look"),
    {**_LANES, "after": "timestamptz[]", "after_ids": "bigint[]"},
    _DUE,
)
NEXT_READY = Planned("next_ready", query("next_ready"), {**_LANES, "after": "timestamptz"}, _DUE)


class LaneState:
    """What a worker keeps for one subscription of a channel."""

    def __init__(
        self,
        number: int,
        lane: Lane,
        channel: type[BaseChannel],
        session: Session,
        claim_filter: ClaimFilter,
        dispatch: Dispatcher,
        observe: Callable[[Sequence[Attempt]], object],
        counters: Counters,
    ) -> None:
        self.number = number
        """Position of the channel."""
        self.lane = lane
        self.channel = channel
        self.dispatch = dispatch
        self._observe = observe
        self._counters = counters
        self.is_listed = dispatch.batch_listener is not None
        """Whether a batch listener gets lists of messages."""
        calls = SLOWEST_CALLS if self.is_listed else dispatch.listeners
        self.limit = math.inf if channel.timeout is None else channel.timeout * calls
        """Seconds that the listeners of one message, or of one batch, may take together."""
        self.is_ordered = bool(channel.ordering_fields())
        claims = OrderedClaims if self.is_ordered else UnorderedClaims
        self.history = History(channel, session)
        self.claims: Claims = claims(lane, session, claim_filter, self.history)
        sizing = ListSizing if self.is_listed else BatchSizing
        self.sizing: BatchSizing | ListSizing = sizing(channel.batch_size)
        self.unresolved: Callable[[], None] | None = None
        """Settles a batch of which it is not known yet whether it was committed."""
        self.rest = 0.0
        """Seconds for which to leave the channel alone after the last batch."""

    def observe(self, attempts: Sequence[Attempt], *, is_undone: bool = False) -> None:
        """Count and observe what has become of messages; these are the *attempts* that failed."""
        self.count(attempts, is_undone=is_undone)
        self._observe(attempts)

    def count(self, attempts: Sequence[Attempt] = (), *, is_undone: bool = False) -> None:
        """Count what has become of messages; see :meth:`Counters.settle`."""
        tallies = self.dispatch.tallies
        self._counters.settle(*self.lane, tallies, attempts, is_undone=is_undone)

    def expire(self, messages: int) -> None:
        """Count messages that had expired."""
        self._counters.expire(*self.lane, messages)


class Delivery:
    """Delivers messages of *channels* to their listeners, on Django's connection *using*.

    Of durable channels it handles what is stored for *lanes*; by default for every subscription.

    *is_stopping* is asked between two messages; once it is true, claimed messages that were not
    reached are released. *after_handling* is called after the last message of a batch, before
    anybody else can see that they were handled. *dispatcher* makes what calls a channel's
    listeners, and *observe* is called with attempts whose outcome is final. *pulse* shows others
    what is handled.
    """

    def __init__(
        self,
        channels: Iterable[type[BaseChannel]],
        *,
        using: str,
        lanes: Iterable[Lane] | None = None,
        schema: str = "",
        is_stopping: Callable[[], bool] = lambda: False,
        after_handling: Callable[[], object] = lambda: None,
        name: str = "",
        dispatcher: Callable[[type[BaseChannel], str, Session], Dispatcher] = Dispatcher,
        observe: Callable[[Sequence[Attempt]], object] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self.channels = {channel.postgres_name(): channel for channel in channels}
        self.session = Session(using, name=name)
        self.signatures = SignatureCheck(self.session)
        self.schema = schema
        """The schema that this connection works in; messages from others are for other workers."""
        self.is_stopping = is_stopping
        self._after_handling = after_handling
        self._observe = observe
        self._pulse = pulse or Pulse()
        self.counters = Counters()
        """What has become of messages since somebody has written it down."""
        condition = claim_filter(using)
        self.lanes = list(lanes or registry.lanes_of(self.channels.values()))
        self._states: dict[Lane, LaneState] = {}
        numbers = {name: number for number, name in enumerate(self.channels)}
        for lane in self.lanes:
            channel = self.channels[lane.channel]
            self._states[lane] = LaneState(
                numbers[lane.channel],
                lane,
                channel,
                self.session,
                condition,
                dispatcher(channel, lane.subscription, self.session),
                observe or _ignore,
                self.counters,
            )
        self._raw_notifies = {
            name: RawNotifies(channel, self.session) for name, channel in self.channels.items()
        }
        self._ephemerals = {
            lane.channel: (
                state,
                Ephemeral(state.channel, self.session, state.dispatch, state.observe),
            )
            for lane, state in self._states.items()
        }
        for state in self._states.values():
            state.dispatch.calling = self._pulse.listener
        self.outcomes: Counter[type] = Counter()
        """Number of notifications by outcome; those that were handled count for ``NoneType``."""
        self._retention = Retention(self.session)
        self._ephemeral = 0
        """Number of messages handled that were not stored."""
        self.paused: set[Lane] = set()
        """Subscriptions that were paused at the last look ahead."""
        self._looked_ahead: str | None = None
        """Server time of the last look ahead."""

    def look(self, lanes: Mapping[Lane, bool]) -> dict[Lane, float]:
        """Return the seconds until each subscription's next stored notification is ready.

        Zero or less: it is ready, or in flight in another worker. Infinity: there is none. The
        value of each says whether to be *thorough*, as in :meth:`handle_stored`.
        """
        for name in dict.fromkeys(lane.channel for lane in lanes):
            self._raw_notifies[name].store()
        claims = {lane: self._states[lane].claims for lane in lanes}
        after = {lane: claims[lane].position(thorough=lanes[lane]) for lane in lanes}
        times, ids = zip(*(place or START for place in after.values()), strict=True)
        values = {**columns(lanes), "after": list(times), "after_ids": list(ids)}
        found, started = {}, time.monotonic()
        rows = self.session.execute_planned(LOOK, values)
        took = (time.monotonic() - started) / len(lanes)
        for channel, subscription, seconds, at in rows:
            lane = Lane(channel, subscription)
            found[lane] = seconds
            if after[lane] is None and seconds > 0:
                claims[lane].looked(took, at)
        return found

    @property
    def handled(self) -> int:
        """Number of messages handled, whatever became of them."""
        return self.outcomes.total() + self._ephemeral

    def is_rested(self, lane: Lane) -> bool:
        """Return whether a search from the start of a subscription may be made again."""
        return self._states[lane].claims.is_rested

    def rest(self, lane: Lane) -> float:
        """Return for how many seconds to leave a subscription alone after its last batch."""
        return self._states[lane].rest

    def next_ready(self) -> dict[Lane, float]:
        """Return the seconds until each subscription's next stored notification is ready.

        This leaves out those that are paused, which it notes in :attr:`paused`. It also leaves
        out what was ready at the call before: it is in flight in another worker, or
        :meth:`handle_stored` would have claimed it since.
        """
        values = {**columns(self.lanes), "after": self._looked_ahead}
        found: dict[Lane, float] = {}
        self.paused = set()
        for channel, subscription, seconds, at in self.session.execute_planned(NEXT_READY, values):
            self._looked_ahead, lane = at, Lane(channel, subscription)
            if seconds is None:
                self.paused.add(lane)
            else:
                found[lane] = seconds
        return found

    def count_ready(self) -> int:
        """Return how many stored notifications are ready; 10,001 stands for more than 10,000."""
        ((count,),) = self.session.execute("count_ready", columns(self.lanes))
        return int(count)

    def sweep(self) -> None:
        """Delete long payloads that have expired."""
        self.session.execute("delete_long_payloads")

    def forget(self) -> bool:
        """Delete some of what was kept for long enough; return whether there may be more."""
        return self._retention.run()

    def accepts(self, name: str, payload: str, pid: int) -> bool:
        """Return whether a NOTIFY from the server process *pid* may be handled or stored."""
        return self.signatures.accepts(self.channels[name], payload, pid, self.schema)

    def handle_ephemeral(self, name: str, waiting: deque[str], until: float = math.inf) -> None:
        """Handle messages that are not stored; see :meth:`Ephemeral.handle`."""
        state, ephemeral = self._ephemerals[name]
        self._pulse.handling(state.number, state.limit)
        before = len(waiting)
        ephemeral.handle(waiting, self.schema, until)
        self._ephemeral += before - len(waiting)
        self._pulse.working()

    def store(self, name: str, payloads: Iterable[str]) -> None:
        """Store raw NOTIFYs on a durable channel, now or before the next batch."""
        raw_notifies = self._raw_notifies[name]
        raw_notifies.add(payloads, self.schema)
        raw_notifies.store()

    def handle_stored(self, name: str, subscription: str = "", *, thorough: bool = True) -> bool:
        """Claim and handle one batch of a subscription; return whether to look again at once.

        If *thorough*, that ends only once a search from the start has found nothing more. Otherwise
        it may also end because such a search took place a moment ago: see :meth:`is_rested`.

        A lost connection, a failure at COMMIT, or whatever else cannot be undone for one message
        alone rolls back the batch. Each of its messages is then handled alone, so that the failure
        is charged to the message that causes it. So is each message that a crashed worker had in
        flight.

        Raises what keeps it from claiming, which is no message's fault.
        """
        state, batch = self._states[Lane(name, subscription)], None
        state.rest = 0.0
        self._raw_notifies[name].store()
        if state.unresolved:
            state.unresolved()
        is_durable = state.channel.batch_size == 1
        try:
            with self.session.isolation(durable=is_durable, channel=name) as isolation:
                limits = state.sizing.start()
                claim = state.claims.take(limits.messages, thorough=thorough)
                if claim.claimed:
                    batch = self._batch(state, claim.claimed, isolation, limits)
                    self._handle(state, batch)
                else:
                    charged = account_for(
                        claim.abandoned, state.channel, subscription, self.session
                    )
        except PlansGone:
            return True
        except Exception as error:  # whatever it is, it is this batch's outcome
            if batch is None:
                raise
            self._recover(state, batch, error)
            return True
        if batch is None:
            self.outcomes.update(type(one.outcome) for one in charged)
            state.count(charged)
            report_crashes(claim.abandoned, charged, state.lane)
            return not claim.is_last
        self._committed(state, batch)
        return not claim.is_last or batch.count(Release) > 0

    def _batch(
        self,
        state: LaneState,
        claimed: Sequence[Claimed],
        isolation: Isolation,
        limits: BatchLimits,
    ) -> Batch:
        isolation.transaction = claimed[0].transaction
        kind = ListBatch if state.is_listed else Batch
        return kind(
            claimed,
            isolation,
            channel=state.channel,
            subscription=state.lane.subscription,
            dispatch=state.dispatch,
            is_ordered=state.is_ordered,
            limits=limits,
            is_stopping=self.is_stopping,
            is_observed=self._observe is not None or is_observed(),
            is_kept=state.history.is_kept,
            in_flight=self._pulse.message,
        )

    def _handle(self, state: LaneState, batch: Batch) -> None:
        self._pulse.handling(state.number, state.limit)
        try:
            batch.handle()
        finally:
            self._pulse.working()
        self._after_handling()
        batch.isolation.verify()
        self._put_back(state, batch)

    def _put_back(self, state: LaneState, batch: Batch) -> None:
        rows = batch.rows_to_put_back()
        if rows:
            values: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
            self.session.execute("put_back", values | state.lane._asdict())
        state.history.correct(batch)
        if batch.count(Release) and is_notified(state.channel):
            # Other workers may have gone to sleep meanwhile.
            self.session.execute("ring", {"channels": [state.lane.channel]})

    def _committed(self, state: LaneState, batch: Batch) -> None:
        released, expired = batch.count(Release), batch.count(Expired)
        if not batch.claimed[0].alone:  # it does not show how quick the others are
            state.sizing.end(batch)
        state.rest = batch.rest
        if released:
            state.claims.rewind(batch.first(Release))
        if expired:
            message = "%s notifications of channel %s had expired and were dropped"
            extra = {**state.lane._asdict(), "count": expired}
            logger.info(message, expired, state.lane, extra=extra)
            state.expire(expired)
        self.outcomes[type(None)] += batch.count(Done)
        self._report(state, batch.attempts)

    def _report(
        self, state: LaneState, attempts: Sequence[Attempt], *, is_undone: bool = False
    ) -> None:
        """Report outcomes that are final, and tidy up after receivers and listeners."""
        self.outcomes.update([type(one.outcome) for one in attempts if one.error is not None])
        state.observe(attempts, is_undone=is_undone)
        if is_reported() or logger.isEnabledFor(logging.DEBUG):
            for attempt in attempts:
                report_outcome(attempt)
        if is_reported():
            self.session.reclaim(state.lane.channel)
        self.session.tidy_up()

    # --- Batches that were not committed, as far as the worker knows

    def _recover(self, state: LaneState, batch: Batch, error: Exception) -> None:
        """Decide what becomes of a batch that seems to have been rolled back by *error*.

        If the server is gone, the next :meth:`handle_stored` of the subscription decides.
        """
        state.unresolved = partial(self._recover, state, batch, error)
        self.session.drop_if_broken()
        self.session.tidy_up()
        state.claims.rewind(batch.claimed[0])
        self._resolve(state, batch, error)
        state.unresolved = None

    def _resolve(self, state: LaneState, batch: Batch, error: Exception) -> None:
        isolation = batch.isolation
        is_committed = self.session.was_committed(isolation.transaction, isolation.recovered_at)
        if is_committed and isolation.is_committing:  # only the server's answer was lost
            self._committed_after_all(state, batch)
        elif (
            is_committed or isolation.is_committed
        ):  # by a listener: only this worker knows the rest
            if not isolation.is_committed:
                isolation.note_commit()
            batch.abort(_cause(error), is_innocent=isolation.is_lost)
            self._put_back(state, batch)
            self._committed_after_all(state, batch)
        elif len(batch.claimed) == 1:
            self._failed_alone(state, batch, error)
        else:
            self._isolate(state, batch, error)

    def _committed_after_all(self, state: LaneState, batch: Batch) -> None:
        for callback in batch.isolation.callbacks:
            callback()
        self._committed(state, batch)

    def _failed_alone(self, state: LaneState, batch: Batch, error: Exception) -> None:
        """Record the failure of a message that is no longer in flight."""
        attempt, (claimed,) = batch.first_attempt(), batch.claimed
        innocent = postpone(describe(error)) if batch.isolation.is_lost else None
        outcome = attempt.fail(_cause(error), innocent)
        log_failure(attempt)
        if isinstance(outcome, Discarded) and state.history.is_kept:
            state.history.discard(claimed, outcome)
        else:
            self.session.record_failure(claimed.id, claimed.attempts, outcome)
        self._report(state, [attempt], is_undone=True)

    def _isolate(self, state: LaneState, batch: Batch, error: Exception) -> None:
        """Have each message of the batch be handled alone from now on."""
        message = (
            "A batch of channel %s was rolled back (messages: %s). None is lost: each will be "
            "handled again, in a transaction of its own."
        )
        count = len(batch.claimed)
        extra = {**state.lane._asdict(), "count": count}
        logger.warning(message, state.lane, count, exc_info=error, extra=extra)
        self.session.execute("isolate", {"ids": [one.id for one in batch.claimed]})
        state.count(is_undone=True)


def _ignore(attempts: Sequence[Attempt]) -> None:
    """Nobody observes them."""


def _cause(error: Exception) -> BaseException:
    """Return the failure of the message, of which *error* is the effect on its batch."""
    return error.__cause__ if isinstance(error, Escaped) and error.__cause__ else error
