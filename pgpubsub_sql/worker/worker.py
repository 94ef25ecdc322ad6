"""One process that listens: looks for what is stored, hears what is sent, sleeps in between."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from django.db import connections
from django.db.utils import DatabaseError, InterfaceError, OperationalError
from django.dispatch import Signal

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import NotReady, WrongPlace
from pgpubsub_sql.retry import Backoff
from pgpubsub_sql.signals import worker_reconnected, worker_started, worker_stopped
from pgpubsub_sql.sql import READ_ONLY_TRANSACTION, sqlstate
from pgpubsub_sql.sql.readiness import check_workable, place
from pgpubsub_sql.worker.backlog import Backlog
from pgpubsub_sql.worker.connections import adopt
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.doorbell import ECHO_SECONDS, Doorbell
from pgpubsub_sql.worker.forks import disown, in_forks
from pgpubsub_sql.worker.outcomes import Discarded, Park, Postpone, ReadAgain, TryAgain
from pgpubsub_sql.worker.reporting import send
from pgpubsub_sql.worker.shutdown import Lifeline, Shutdown

logger = logging.getLogger("pgpubsub_sql.worker")

SAFETY_SECONDS = 10.0
"""Longest time between two looks at a channel. A ring brings one at once; this finds what no ring
announces, such as what another worker gave back by dying."""
HEARING_SECONDS = 0.05
"""Longest time that what is sent is handled without a look at what is stored."""
PLAN_SECONDS = 0.1
"""Least time between two looks ahead while a channel is never empty."""
PLAN_SHARE = 20
"""And how many times as long as the last one took: with many channels it is no short query."""
SWEEP_SECONDS = 60.0
_RETRIED = (TryAgain, ReadAgain, Postpone)


class Worker:
    """Listens to *channels* on the database *using*, in the foreground, until it is stopped.

    *must_be* is the schema and database where it has to work, as ``queries/place.sql`` names them;
    *name*, what the server knows its connections by. A *lifeline* ties it to its supervisor.

    In turn it *looks* (handles a batch of each channel that is due) and *hears* (waits for a
    NOTIFY, or until a channel is due). When nothing is due, and now and then while something
    always is, it first *plans*: asks when the next stored notification becomes ready. Losing the
    server brings it into *reconnecting*: it waits ever longer, opens the doorbell again, and looks
    everywhere.
    """

    def __init__(
        self,
        channels: Iterable[type[BaseChannel]],
        *,
        using: str = "default",
        must_be: str = "",
        name: str = "",
        lifeline: Lifeline | None = None,
    ) -> None:
        self.using = using
        self.shutdown = Shutdown(aborts=lifeline is None, lifeline=lifeline)
        self.delivery = Delivery(
            channels,
            using=using,
            is_stopping=self.shutdown.is_requested,
            after_handling=self.shutdown.take_back_signals,
            name=name,
        )
        self.doorbell = Doorbell(self.delivery.channels, using=using, name=name)
        self._look_at = dict.fromkeys(self.delivery.channels, 0.0)
        """When each channel is due, by the monotonic clock."""
        self._ephemeral = Backlog()
        """Messages that were heard, and not handled yet."""
        self._troubles: dict[str, Backoff] = defaultdict(Backoff)
        """Channels that could not be looked at, with how often in a row."""
        self._place = must_be
        self._planned = False
        self._plan_at = 0.0
        """When to plan although something is due, by the monotonic clock."""
        self._sweep_at = 0.0
        self._echo_at = 0.0
        self._has_listened = False

    def run(self) -> None:
        """Listen until SIGTERM or SIGINT, or until the parent process is gone."""
        with self.shutdown, self._alone_in_forks(), self._told():
            try:
                self._connect()
                while not self.shutdown.is_requested():
                    self.step()
            finally:
                self.doorbell.close()

    def drain(self) -> bool:
        """Handle what is stored and ready; return whether none of it failed.

        Does not hear what is sent meanwhile. Logs a summary at its end.
        Raises :class:`NotReady` or Django's database errors if it cannot.
        """
        with self.shutdown, self._alone_in_forks(), self._told():
            adopt(self.using)
            self._settle_down()
            names = list(self.delivery.channels)
            while names and not self.shutdown.is_requested():
                names = [name for name in names if self._handle_stored(name)]
            return self._sum_up()

    def _sum_up(self) -> bool:
        """Log what has become of messages; return whether none failed."""
        outcomes = self.delivery.outcomes
        retried, parked = sum(outcomes[kind] for kind in _RETRIED), outcomes[Park]
        message = (
            "Drained: %s handled, %s failed and will be retried, %s parked, %s discarded by their "
            "listeners; %s that are ready are left"
        )
        left = self.delivery.count_ready()
        logger.info(message, outcomes[type(None)], retried, parked, outcomes[Discarded], left)
        return not (retried or parked)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell when it starts and stops, whatever brings its end."""
        self._tell(worker_started)
        try:
            yield
        finally:
            self._tell(worker_stopped)

    def _tell(self, signal: Signal) -> None:
        send(signal, Worker, using=self.using, channels=list(self.delivery.channels.values()))

    def step(self) -> None:
        """Look once, hear once."""
        try:
            self._look()
            if not self.shutdown.is_requested():
                self._plan()
                self._hear()
        except self.doorbell.errors as error:
            message = (
                "The LISTEN connection is lost: %s. The worker connects again. What is sent on "
                "ephemeral channels meanwhile is missed; what is stored is handled later."
            )
            logger.warning(message, _first_line(error))
            self._connect()

    def _look(self) -> None:
        now = time.monotonic()
        for name in [name for name, due in self._look_at.items() if due <= now]:
            if self.shutdown.is_requested():
                return
            with self._outliving_trouble(name):
                again = self._handle_stored(name)
                self._look_at[name] = 0.0 if again else time.monotonic() + SAFETY_SECONDS
                self._troubles.pop(name, None)
            self._planned = False

    def _handle_stored(self, name: str) -> bool:
        try:
            return self.delivery.handle_stored(name)
        finally:
            self.shutdown.take_back_signals()

    @contextmanager
    def _outliving_trouble(self, name: str) -> Iterator[None]:
        """Whatever hinders work on a channel, look at it again later, and no sooner."""
        try:
            yield
        except Exception as error:
            delay = self._troubles[name].fail()
            message = (
                "Stored messages of channel %s cannot be handled now: %s; trying again in "
                "%.1f seconds"
            )
            told, trace = (name, _first_line(error), delay), _unless_lost(error)
            logger.warning(message, *told, exc_info=trace, extra={"channel": name})
            self.delivery.session.drop_if_broken()
            self._look_at[name] = time.monotonic() + delay

    def _plan(self) -> None:
        """Learn what will be due, and keep the house clean: however busy a channel is."""
        now = time.monotonic()
        is_busy = min(self._look_at.values()) <= now
        if now < self._plan_at if is_busy else self._planned:
            return
        self._planned = True
        try:
            for name, seconds in self.delivery.next_ready().items():
                self._bring_forward(name, now + seconds)
            if self._sweep_at <= now:
                self._sweep_at = now + SWEEP_SECONDS
                self.delivery.sweep()
            if self._echo_at <= now:
                self._echo_at = now + ECHO_SECONDS
                self.delivery.session.execute("ring", {"channels": [self.doorbell.echo]})
                self.doorbell.expect_echo()
        except Exception as error:  # every channel is looked at soon anyway
            trace = _unless_lost(error)
            message = (
                "Asking when stored messages are due failed: %s; each channel is looked at every "
                "%g seconds anyway"
            )
            logger.warning(message, _first_line(error), SAFETY_SECONDS, exc_info=trace)
            self.delivery.session.drop_if_broken()
        took = time.monotonic() - now
        self._plan_at = now + max(PLAN_SECONDS, PLAN_SHARE * took)

    def _hear(self) -> None:
        is_behind = self._ephemeral or self.doorbell.has_notifies
        timeout = 0 if is_behind else max(0.0, min(self._look_at.values()) - time.monotonic())
        work = connections[self.using].connection
        heard = self.shutdown.wait([self.doorbell, work] if work else [self.doorbell], timeout)
        if work in heard:
            # It is idle, so what comes is the server's farewell: better noticed now than by
            # the next message.
            connections[self.using].close()
        self._read()
        self._catch_up()

    def _read(self) -> None:
        """Take in what was heard: whatever it is, it does not stay where it takes others' room."""
        raw: dict[str, list[str]] = defaultdict(list)
        for notify in self.doorbell.notifies():
            if not notify.payload:
                self._bring_forward(notify.channel, 0.0)
            elif not self.delivery.accepts(notify.channel, notify.payload, notify.pid):
                continue
            elif self.delivery.channels[notify.channel].lock_notifications:
                raw[notify.channel].append(notify.payload)
            else:
                self._ephemeral.add(notify)
        for name, payloads in raw.items():
            if self.doorbell.elect(name):
                self.delivery.store(name, payloads)
                self._bring_forward(name, 0.0)

    def _catch_up(self) -> None:
        """Handle messages that were sent, for a while, and go on reading in between."""
        started = time.monotonic()
        while not self.shutdown.is_requested() and (notify := self._ephemeral.next()):
            self.delivery.handle_ephemeral(notify.channel, notify.payload)
            self._read()
            if time.monotonic() - started >= HEARING_SECONDS:
                break
        self.shutdown.take_back_signals()
        self._ephemeral.report()
        self.delivery.signatures.report()

    def _bring_forward(self, name: str, due: float) -> None:
        if name not in self._troubles:
            self._look_at[name] = min(self._look_at[name], due)

    def _connect(self) -> None:
        """Open the doorbell, however long it takes, then look everywhere."""
        backoff = Backoff()
        while not self.shutdown.is_requested():
            self.doorbell.close()
            connections[self.using].close()
            adopt(self.using)
            try:
                self._settle_down()
                self.delivery.signatures.learn()
                self.doorbell.open()
            except (self.doorbell.errors, DatabaseError, InterfaceError, NotReady) as error:
                delay = backoff.fail()
                message = "Cannot listen: %s; trying again in %.1f seconds"
                logger.warning(message, _first_line(error), delay)
                self.shutdown.wait(timeout=delay)
            else:
                logger.info("Listening to %s", ", ".join(self.delivery.channels))
                self._look_at = dict.fromkeys(self.delivery.channels, 0.0)
                self._echo_at = time.monotonic() + ECHO_SECONDS
                if self._has_listened:
                    self._tell(worker_reconnected)
                self._has_listened = True
                return

    def _settle_down(self) -> None:
        """Learn where the connection leads, which may be nowhere else than it should.

        Raises :class:`WrongPlace` and :class:`NotReady`.
        """
        connection = connections[self.using]
        if self._place and (here := place(connection)) != self._place:
            raise WrongPlace(
                f"The worker's connection {self.using!r} leads to {here}, but that of `listen` to "
                f"{self._place}. The settings alone lead to the former: something else, such as a "
                "command for tenants, has set up the latter."
            )
        self.delivery.schema = check_workable(connection)

    def _alone_in_forks(self) -> AbstractContextManager[None]:
        """Keep the connections from processes that a listener forks."""
        own = connections[self.using]

        def let_go() -> None:
            self.doorbell.sever()
            for connection in {own, *connections.all(initialized_only=True)}:
                disown(connection)

        return in_forks(let_go)


def _first_line(error: Exception) -> str:
    """Return what *error* says, as a part of a sentence."""
    line = str(error).strip().partition("\n")[0]
    return line.removesuffix(".") or type(error).__name__


def _unless_lost(error: Exception) -> bool:
    """Whether a traceback says more than that the server is gone, or takes no writes."""
    # A bare DatabaseError is all that psycopg2 has for a COMMIT during which the server goes.
    return not (
        isinstance(error, OperationalError | InterfaceError)
        or type(error) is DatabaseError
        or sqlstate(error) == READ_ONLY_TRANSACTION
    )
