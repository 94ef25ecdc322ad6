"""The worker: polls for stored messages, waits for NOTIFYs, and reconnects."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from django.db import connections
from django.db.utils import DatabaseError, InterfaceError
from django.dispatch import Signal

from pgpubsub_sql.channels import BaseChannel, is_notified
from pgpubsub_sql.errors import NotReady, WrongPlace
from pgpubsub_sql.keeping import check_history, is_kept
from pgpubsub_sql.retry import Backoff
from pgpubsub_sql.signals import worker_reconnected, worker_started, worker_stopped
from pgpubsub_sql.sql.readiness import check_workable, place
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.backlog import Backlog
from pgpubsub_sql.worker.connections import LISTEN, open_for_worker
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.doorbell import ECHO_SECONDS, Doorbell
from pgpubsub_sql.worker.filling import Filler
from pgpubsub_sql.worker.forks import disown, in_forks
from pgpubsub_sql.worker.limits import Limits
from pgpubsub_sql.worker.outages import cause, first_line, needs_traceback
from pgpubsub_sql.worker.outcomes import Discarded, Park, Postpone, ReadAgain, TryAgain
from pgpubsub_sql.worker.pulse import Pulse
from pgpubsub_sql.worker.recording import Recorder
from pgpubsub_sql.worker.reporting import log_pauses, send
from pgpubsub_sql.worker.shutdown import Lifeline, Shutdown
from pgpubsub_sql.worker.sleeping import POLL_SECONDS, Sleeper
from pgpubsub_sql.worker.vacuuming import Vacuum

logger = logging.getLogger("pgpubsub_sql.worker")

AT_ONCE = 0.0
"""When a lane is due that is known to have messages, by the monotonic clock."""
EPHEMERAL_SECONDS = 0.05
"""Longest time for handling ephemeral messages before stored ones have their turn."""
TURN_SECONDS = 0.002
"""Longest time for handling ephemeral messages of one channel before others have their turn."""
LOOK_AHEAD_SECONDS = 0.1
"""Shortest time between two looks ahead while a lane is never empty."""
LOOK_AHEAD_SHARE = 20
"""The time between two looks ahead is at least this many times as long as the last one took: with
many lanes the query is not quick."""
MOST_LOOKS = 100
"""How often a drain looks for messages that were sent since: others may send without a pause."""
SWEEP_SECONDS = 60.0
FORGET_SECONDS = 600.0
"""Time between two looks for partitions of the history that can be emptied."""
FORGET_MORE_SECONDS = 1.0
"""Least time until the next one after one was emptied."""
_RETRIED = (TryAgain, ReadAgain, Postpone)


class Worker:
    """Listens to *channels* on the database *using*, in the foreground, until it is stopped.

    Of durable channels it handles what is stored for *lanes*; by default for every subscription.

    *expected_place* is the schema and database where it must work, as the query ``place`` spells
    them. The server shows its connections under *name*. A *lifeline* ties it to its supervisor, to
    which its *pulse* shows what it does. It ends when it has reached one of its *limits*.
    *delivery* says what becomes of messages, and *purpose* how the server shows who listens.

    It alternates between three things:

    * :meth:`_poll` handles one batch of each lane that is due;
    * :meth:`_look_ahead` asks when the next stored message becomes ready: before the worker sleeps,
      and now and then while some channel is always due;
    * :meth:`_receive` waits for a NOTIFY, or until a lane is due.

    A lane is a subscription of a channel. One in which messages were found, or of whose channel a
    NOTIFY came, is awake for a while: it is due every few milliseconds. Writers notify only once a
    :class:`Sleeper` has put it to sleep.

    If it loses the server, it tries to connect again, with growing delays, and then polls all
    channels.
    """

    def __init__(
        self,
        channels: Iterable[type[BaseChannel]],
        *,
        using: str = "default",
        lanes: Iterable[Lane] | None = None,
        expected_place: str = "",
        name: str = "",
        lifeline: Lifeline | None = None,
        pulse: Pulse | None = None,
        limits: Limits | None = None,
        delivery: Callable[..., Delivery] = Delivery,
        purpose: str = LISTEN,
    ) -> None:
        self.using = using
        self.is_spent = False
        """Whether it ended because it had reached one of its limits."""
        self._limits = limits or Limits()
        self._pulse = pulse or Pulse()
        self.shutdown = Shutdown(aborts=lifeline is None, lifeline=lifeline)
        self.delivery = delivery(
            channels,
            using=using,
            lanes=lanes,
            is_stopping=self.shutdown.is_requested,
            after_handling=self.shutdown.take_back_signals,
            name=name,
            pulse=self._pulse,
        )
        self.doorbell = Doorbell(self.delivery.channels, using=using, name=name, purpose=purpose)
        lanes = self.delivery.lanes
        polled = [one for one in lanes if not is_notified(self.delivery.channels[one.channel])]
        self._sleeper = Sleeper(lanes, polled=polled)
        self._lanes: dict[str, list[Lane]] = defaultdict(list)
        """The lanes of each channel."""
        for lane in lanes:
            self._lanes[lane.channel].append(lane)
        self._poll_at = dict.fromkeys(lanes, 0.0)
        """When each lane is due, by the monotonic clock."""
        self._ephemeral = Backlog()
        """Messages that were received and not handled yet."""
        self._backoffs: dict[Lane, Backoff] = defaultdict(Backoff)
        """Lanes whose last polls failed, or that are left alone for a while."""
        self._expected_place = expected_place
        self._has_looked_ahead = False
        """Whether nothing has been polled since the last look ahead."""
        self._look_ahead_at = 0.0
        """When to look ahead although a lane is due, by the monotonic clock."""
        self._vacuum = Vacuum(self.delivery.session)
        self._recorder = Recorder()
        self._filler = Filler(self.delivery.channels, lanes, self.delivery.session)
        self._sweep_at = 0.0
        self._forget_at = 0.0
        self._echo_at = 0.0
        self._has_listened = False

    @property
    def is_listening(self) -> bool:
        """Whether it has begun to listen; it may have lost its connection since."""
        return self._has_listened

    def run(self) -> None:
        """Listen until SIGTERM or SIGINT, a limit, or until the parent process is gone."""
        with self.shutdown, self._guarding_forks(), self._signalling():
            try:
                self._connect()
                while not (self.shutdown.is_requested() or self._has_reached_limit()):
                    self.step()
                self._hand_over()
                if self.doorbell.is_open:
                    with suppress(self.doorbell.errors):
                        self._recorder.write(self.delivery.counters, self.doorbell)
            finally:
                self.doorbell.close()

    def _hand_over(self) -> None:
        """Handle the ephemeral messages that have come: a successor does not hear them."""
        if self.is_spent:
            with suppress(self.doorbell.errors):
                self.doorbell.execute("SELECT 1")  # the server first sends what it has
                self._read()
        while self._ephemeral and not self.shutdown.is_requested():
            self._take_turn(math.inf)

    def _has_reached_limit(self) -> bool:
        if reason := self._limits.reached(self.delivery.handled):
            self.is_spent = True
            logger.info("The worker ends and is replaced: %s", reason)
        return self.is_spent

    def drain(self) -> bool:
        """Handle the stored messages that are ready; return whether none of them failed.

        It looks for messages that are sent meanwhile, as by listeners, until it finds none, but
        :data:`MOST_LOOKS` times at most. It ignores ephemeral messages, and logs a summary at the
        end. Subscriptions that begin with the history are filled to the end, unless they are
        paused.
        Raises :class:`NotReady` or one of Django's database errors if that is impossible.
        """
        with self.shutdown, self._guarding_forks(), self._signalling():
            open_for_worker(self.using)
            self._check_database()
            self._filler.start()
            lanes: list[Lane] = []
            handled, looks = -1, 0
            while not self.shutdown.is_requested():
                lanes = [lane for lane in lanes if self._handle_stored(lane)]
                lanes += self._filler.fill().difference(lanes)
                self._vacuum.run(self.delivery.outcomes.total())
                if self._recorder.patience(self.delivery.counters) <= 0:
                    self._recorder.write_drained(self.delivery.counters, self.delivery.session)
                if not lanes and handled < self._succeeded and looks < MOST_LOOKS:
                    lanes, handled, looks = self._with_stored(), self._succeeded, looks + 1
                lanes = lanes or self._await_filling()
                if not lanes:
                    break
            self._recorder.write_drained(self.delivery.counters, self.delivery.session)
            return self._sum_up()

    @property
    def _succeeded(self) -> int:
        """Number of messages whose listeners have succeeded, and may have sent others."""
        return self.delivery.outcomes[type(None)]

    def _with_stored(self) -> list[Lane]:
        """Return the lanes with messages that are ready, or in flight in another worker.

        They are asked for in one query, however many they are.
        """
        lanes = self.delivery.lanes
        found = self.delivery.look(dict.fromkeys(lanes, True)) if lanes else {}
        return [lane for lane in lanes if found.get(lane, math.inf) <= 0]

    def _await_filling(self) -> list[Lane]:
        """Wait until it is time to fill subscriptions further; return them."""
        if lanes := list(self._filler.unfinished):
            self._pulse.idle()
            self.shutdown.wait(timeout=max(0.0, self._filler.patience))
            self._pulse.working()
        return lanes

    def _sum_up(self) -> bool:
        """Log how many messages had which outcome; return whether none failed."""
        outcomes = self.delivery.outcomes
        retried, parked = sum(outcomes[kind] for kind in _RETRIED), outcomes[Park]
        self.delivery.next_ready()
        log_pauses(set(), self.delivery.paused)
        message = (
            "Drained: %s handled, %s failed and will be retried, %s parked, %s discarded by their "
            "listeners; %s are still ready"
        )
        left = self.delivery.count_ready()
        logger.info(message, self._succeeded, retried, parked, outcomes[Discarded], left)
        return not (retried or parked)

    @contextmanager
    def _signalling(self) -> Iterator[None]:
        """Send ``worker_started``, and ``worker_stopped`` whatever ends the worker."""
        self._send(worker_started)
        try:
            yield
        finally:
            self._send(worker_stopped)

    def _send(self, signal: Signal) -> None:
        send(signal, Worker, using=self.using, channels=list(self.delivery.channels.values()))

    def step(self) -> None:
        """Poll once, receive once."""
        try:
            self._poll()
            if not self.shutdown.is_requested():
                for lane in self._filler.fill():
                    self._bring_forward(lane, AT_ONCE)
                self._look_ahead()
                self._keep_house()
                if self._recorder.patience(self.delivery.counters) <= 0:
                    self._recorder.write(self.delivery.counters, self.doorbell)
                self._receive()
        except self.doorbell.errors as error:
            message = (
                "The LISTEN connection is lost: %s. The worker connects again. Messages sent on "
                "ephemeral channels meanwhile are missed; stored messages are handled later."
            )
            logger.warning(message, first_line(error))
            self._connect()

    def _poll(self) -> None:
        """Handle one batch of each lane that is due."""
        for lane in self._with_messages():
            if self.shutdown.is_requested():
                return
            with self._retrying(lane):
                before, may_sleep = self.delivery.outcomes.total(), self.delivery.is_rested(lane)
                again = self._handle_stored(lane, thorough=self._sleeper.is_settled(lane))
                found = self.delivery.outcomes.total() > before
                if found or not again:  # else the search has not come to its end
                    self._polled(lane, found=found, may_sleep=may_sleep)
                self._poll_at[lane] = AT_ONCE if again else self._poll_at[lane]
                self._backoffs.pop(lane, None)
                if rest := self.delivery.rest(lane):
                    self._poll_at[lane] = time.monotonic() + rest
                    self._backoffs[lane] = Backoff()
            self._has_looked_ahead = False

    def _polled(self, lane: Lane, *, found: bool, may_sleep: bool) -> None:
        """Plan the next poll of a lane."""
        seconds = self._sleeper.polled(lane, found=found, may_sleep=may_sleep)
        self._poll_at[lane] = time.monotonic() + min(POLL_SECONDS, seconds)

    def _with_messages(self) -> list[Lane]:
        """Return the lanes that are due and may have messages.

        The others are asked for in one query, however many they are. It includes lanes that are
        due soon, so that all that are idle are asked for together.
        """
        now = time.monotonic()
        due = {lane: at for lane, at in self._poll_at.items() if at <= now}
        certain = [lane for lane, at in due.items() if at == AT_ONCE or lane in self._backoffs]
        if len(certain) == len(due) or (len(due) == 1 and not self._sleeper.is_idle(*due)):
            return list(due)
        soon = [lane for lane, at in self._poll_at.items() if at <= now + POLL_SECONDS / 2]
        asked = due.keys() | {lane for lane in soon if self._sleeper.is_idle(lane)}
        return certain + self._ask(asked.difference(certain, self._backoffs))

    def _ask(self, lanes: Iterable[Lane]) -> list[Lane]:
        """Return those of these lanes that have messages; plan when to poll the others."""
        asked = {lane: self._sleeper.is_settled(lane) for lane in lanes}
        rested = {lane: self.delivery.is_rested(lane) for lane in asked}
        try:
            found = self.delivery.look(asked)
        except Exception as error:  # noqa: BLE001 - the polls show what is wrong
            self._log_failed_look(error)
            return list(asked)
        for lane, seconds in found.items():
            if seconds > 0:
                self._polled(lane, found=False, may_sleep=rested[lane])
                self._bring_forward(lane, time.monotonic() + seconds)
        return [lane for lane, seconds in found.items() if seconds <= 0]

    def _handle_stored(self, lane: Lane, *, thorough: bool = True) -> bool:
        try:
            return self.delivery.handle_stored(*lane, thorough=thorough)
        finally:
            self.shutdown.take_back_signals()

    @contextmanager
    def _retrying(self, lane: Lane) -> Iterator[None]:
        """If polling a lane fails, whatever the reason, log that and poll it again later."""
        try:
            yield
        except Exception as error:
            delay = self._backoffs[lane].fail()
            message = (
                "Stored messages of channel %s cannot be handled now: %s; trying again in "
                "%.1f seconds"
            )
            reason = cause(self.using, error)
            details, trace = (lane, first_line(reason), delay), needs_traceback(reason)
            logger.warning(message, *details, exc_info=trace, extra=lane._asdict())
            self.delivery.session.drop_if_broken()
            self._poll_at[lane] = time.monotonic() + delay

    def _look_ahead(self) -> None:
        """Learn when lanes will be due."""
        now = time.monotonic()
        is_busy = self._sleeper.is_awake or min(self._poll_at.values()) <= now
        if now < self._look_ahead_at if is_busy else self._has_looked_ahead:
            return
        self._has_looked_ahead = True
        paused = self.delivery.paused
        try:
            for lane, seconds in self.delivery.next_ready().items():
                self._bring_forward(lane, now + seconds)
            for lane in self.delivery.paused:
                self._sleeper.pause(lane)
                self._poll_at[lane] = now + POLL_SECONDS
            log_pauses(paused, self.delivery.paused)
        except Exception as error:  # noqa: BLE001 - every channel is polled soon anyway
            self._log_failed_look(error)
        took = time.monotonic() - now
        self._look_ahead_at = now + max(LOOK_AHEAD_SECONDS, LOOK_AHEAD_SHARE * took)

    def _log_failed_look(self, error: Exception) -> None:
        message = (
            "Asking when stored messages are due failed: %s; each channel is polled every "
            "%g seconds anyway"
        )
        reason = cause(self.using, error)
        trace = needs_traceback(reason)
        logger.warning(message, first_line(reason), POLL_SECONDS, exc_info=trace)
        self.delivery.session.drop_if_broken()

    def _keep_house(self) -> None:
        """Delete what is old, vacuum, and ring the worker's own doorbell, each when it is due."""
        self._vacuum.run(self.delivery.outcomes.total())
        now = time.monotonic()
        try:
            if self._sweep_at <= now:
                self._sweep_at = now + SWEEP_SECONDS
                self.delivery.sweep()
            if self._forget_at <= now:
                self._forget_at = now + FORGET_SECONDS
                if self.delivery.forget():
                    self._forget_at = now + FORGET_MORE_SECONDS
            if self._echo_at <= now:
                self._echo_at = now + ECHO_SECONDS
                self.delivery.session.execute("ring", {"channels": [self.doorbell.echo]})
                self.doorbell.expect_echo()
        except Exception as error:
            message = "Deleting what is old, or testing LISTEN, failed: %s; it is tried again later"
            reason = cause(self.using, error)
            trace = needs_traceback(reason)
            logger.warning(message, first_line(reason), exc_info=trace)
            self.delivery.session.drop_if_broken()

    def _receive(self) -> None:
        """Wait for a NOTIFY or until a lane is due; handle ephemeral messages."""
        steps = self._sleeper.fall_asleep(self.doorbell.execute, patience=self._patience())
        for lane, seconds in steps.items():
            self._bring_forward(lane, time.monotonic() + seconds)
        work = connections[self.using].connection
        files = [self.doorbell, work] if work else [self.doorbell]
        self._pulse.idle()
        readable = self.shutdown.wait(files, self._patience())
        self._pulse.working()
        if work in readable:
            # The server only writes to an idle connection to close it. Notice that now rather than
            # with the next message.
            connections[self.using].close()
        self._read()
        self._handle_ephemeral()

    def _patience(self) -> float:
        """Return for how many seconds there is nothing to do."""
        if self._ephemeral or self.doorbell.has_notifies:
            return 0.0
        due = min(self._poll_at.values()) - time.monotonic()
        recorded = self._recorder.patience(self.delivery.counters)
        return max(0.0, min(due, recorded, self._filler.patience))

    def _read(self) -> None:
        """Read all NOTIFYs, so that they do not fill the server's queue; sort them by kind."""
        raw: dict[str, list[str]] = defaultdict(list)
        for notify in self.doorbell.notifies():
            if not notify.payload:
                self._wake(notify.channel)
            elif not self.delivery.accepts(notify.channel, notify.payload, notify.pid):
                continue
            elif self.delivery.channels[notify.channel].lock_notifications:
                raw[notify.channel].append(notify.payload)
            else:
                self._ephemeral.add(notify.channel, notify.payload)
        for name, payloads in raw.items():
            if self.doorbell.elect(name):
                self.delivery.store(name, payloads)
                for lane in self._lanes[name]:
                    self._bring_forward(lane, AT_ONCE)

    def _wake(self, name: str) -> None:
        for lane in self._lanes[name]:
            self._sleeper.wake(lane)
            self._bring_forward(lane, AT_ONCE)

    def _handle_ephemeral(self) -> None:
        """Handle ephemeral messages for a while, and read more when none is left."""
        until = time.monotonic() + EPHEMERAL_SECONDS
        while self._ephemeral and not self.shutdown.is_requested():
            self._take_turn(until)
            if time.monotonic() >= until:
                break
            if not self._ephemeral:
                self._read()
        self.shutdown.take_back_signals()
        self._ephemeral.report()
        self.delivery.signatures.report()

    def _take_turn(self, until: float) -> None:
        with self._ephemeral.turn() as (name, waiting):
            ends = min(until, time.monotonic() + TURN_SECONDS)
            self.delivery.handle_ephemeral(name, waiting, ends)

    def _bring_forward(self, lane: Lane, due: float) -> None:
        if lane not in self._backoffs:
            self._poll_at[lane] = min(self._poll_at[lane], due)

    def _connect(self) -> None:
        """Open the doorbell, however long it takes, and make all lanes due."""
        backoff = Backoff()
        self._pulse.listens(False)
        while not self.shutdown.is_requested():
            self._pulse.working()
            self.doorbell.close()
            connections[self.using].close()
            open_for_worker(self.using)
            try:
                self._check_database()
                self.delivery.signatures.learn()
                self.doorbell.open()
                self._sleeper.start(self.doorbell.execute)
            except (self.doorbell.errors, DatabaseError, InterfaceError, NotReady) as error:
                delay = backoff.fail()
                message = "Cannot listen: %s; trying again in %.1f seconds"
                logger.warning(message, first_line(error), delay)
                self._pulse.idle()
                self.shutdown.wait(timeout=delay)
            else:
                self._pulse.listens(True)
                logger.info("Listening to %s", ", ".join(map(str, self.delivery.lanes)))
                self._poll_at = dict.fromkeys(self.delivery.lanes, time.monotonic())
                self._filler.start()
                self._filler.fill()
                self._echo_at = time.monotonic() + ECHO_SECONDS
                if self._has_listened:
                    self._send(worker_reconnected)
                self._has_listened = True
                return

    def _check_database(self) -> None:
        """Check where the connection leads, and that a worker can work there.

        Raises :class:`WrongPlace` or :class:`NotReady`.
        """
        connection = connections[self.using]
        if self._expected_place and (here := place(connection)) != self._expected_place:
            raise WrongPlace(
                f"The worker's connection {self.using!r} leads to {here}, but that of `listen` to "
                f"{self._expected_place}. The settings alone lead to the former: something else, "
                "such as a command for tenants, has set up the latter."
            )
        self.delivery.schema = check_workable(connection)
        check_history(connection, [one for one in self.delivery.channels.values() if is_kept(one)])
        self._filler.check()

    def _guarding_forks(self) -> AbstractContextManager[None]:
        """Have processes that a listener forks give up the worker's connections."""
        own = connections[self.using]

        def give_up() -> None:
            self.doorbell.sever()
            for connection in {own, *connections.all(initialized_only=True)}:
                disown(connection)

        return in_forks(give_up)
