"""Draining: has messages handled as a worker does, in the thread and the transaction of a test."""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from django.db import connections
from django.utils import timezone

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.django_internals import count_callbacks
from pgpubsub_sql.listeners import Listener, registry
from pgpubsub_sql.subscriptions import Lane, columns
from pgpubsub_sql.testing.callbacks import run_callbacks
from pgpubsub_sql.testing.captures import Captures
from pgpubsub_sql.testing.guards import Guard
from pgpubsub_sql.testing.handling import Handled, Record, RecordingDispatcher
from pgpubsub_sql.testing.taps import Row, ask
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.isolation import MESSAGE_ERRORS
from pgpubsub_sql.worker.reporting import guarded
from pgpubsub_sql.worker.session import Session


class Drain:
    """Has messages of *channels* handled, and then those that their listeners send.

    With a *subscription*, these are its copies. Raises :class:`ValueError` if there is none.

    It gives up before the *limit*-th message is exceeded. With *raises*, the first error ends it,
    after its batch was put back as in production.
    """

    def __init__(
        self,
        channels: Sequence[type[BaseChannel]],
        *,
        using: str,
        captures: Captures,
        record: Record,
        limit: int,
        raises: bool,
        subscription: str | None = None,
        only: Listener | None = None,
    ) -> None:
        self.handled = Handled()
        self._using = using
        lanes = _lanes(channels, subscription)
        names = {lane.channel for lane in lanes}
        self._channels = {
            name: channel for channel in channels if (name := channel.postgres_name()) in names
        }
        self._captures = captures
        self._record = record
        self._limit = limit
        self._raises = raises
        self._tap = captures.tap(using)
        self._guard = Guard(using, self._tap.restore)
        self._only = only
        self._dispatchers: dict[Lane, RecordingDispatcher] = {}
        self._delivery = Delivery(
            self._channels.values(),
            using=using,
            lanes=lanes,
            is_stopping=self._is_full,
            dispatcher=self._dispatcher,
            observe=self._observe,
        )

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hear what listeners send in the block, and guard the test's transaction from them.

        Nobody waits for transactions to end before a subscription is filled with the history: that
        of the test does not.
        """
        ask(self._using, "end_filling", **columns(self._delivery.lanes))
        with ExitStack() as stack:
            stack.enter_context(self._tap.open())
            stack.enter_context(self._guard.active())
            yield

    def run(self, *, waiting: bool) -> None:
        """Handle what is ready; and if *waiting*, let time pass until nothing waits any longer."""
        while self._handle_ready() or (waiting and self._advance()):
            if self._is_full():
                self.handled.given_up_at_limit = self._is_left(waiting)
                return

    @contextmanager
    def at(self, moment: datetime.datetime | None) -> Iterator[None]:
        """Let it be that time in the block: stored times move, and what is left moves back."""
        seconds = 0.0
        if moment is not None:
            ((seconds,),) = ask(self._using, "seconds_until", at=moment)
        if seconds <= 0:
            yield
            return
        ask(self._using, "advance", seconds=seconds, channels=[*self._channels])
        try:
            yield
        finally:
            ask(self._using, "advance", seconds=-seconds, channels=[*self._channels])

    def perform(self, lane: Lane, payloads: Sequence[str]) -> None:
        """Handle messages that nobody sent; several in one call."""
        if self._dispatchers[lane].batch_listener:
            self._doing(lambda: self._handle_list(lane, payloads))
        else:
            self._doing(lambda: self._delivery.handle_ephemeral(lane.channel, deque(payloads)))

    def _handle_list(self, lane: Lane, payloads: Sequence[str]) -> None:
        session, dispatch, now = self._delivery.session, self._dispatchers[lane], timezone.now()
        name = lane.channel
        about: Any = {"name": name, "subscription": lane.subscription, "created_at": now}
        batch = [
            (one, Attempt(channel=self._channels[name], using=self._using, **about))
            for one in payloads
        ]
        attempts = [attempt for _, attempt in batch]

        def call() -> None:
            read = [(dispatch.read_instance(*one), one[1]) for one in batch]
            dispatch.call_batch([(one, attempt) for one, attempt in read if one is not None])

        try:
            with session.isolation(durable=True, channel=name) as isolation:
                isolation.run_alone(partial(attempts[0].context.run, call), guarded(attempts[0]))
        except MESSAGE_ERRORS as error:
            for attempt in attempts:
                attempt.error = error
        self._observe(attempts)

    def _dispatcher(
        self, channel: type[BaseChannel], subscription: str, session: Session
    ) -> RecordingDispatcher:
        made = RecordingDispatcher(
            channel,
            subscription,
            session,
            record=self._record,
            check=self._guard.check,
            only=self._only,
        )
        self._dispatchers[Lane(channel.postgres_name(), subscription)] = made
        return made

    def _handle_ready(self) -> bool:
        """Handle one batch of each channel, and what was captured; return whether to go on."""
        before = len(self.handled)
        rows = ask(self._using, "ready_lanes", **columns(self._delivery.lanes))
        again = [self._handle_stored(Lane(*row)) for row in rows if not self._is_full()]
        for row in self._captured():
            if not self._is_full():
                self._handle_captured(row)
        return any(again) or len(self.handled) > before

    def _handle_stored(self, lane: Lane) -> bool:
        self._captures.keep(self._using)
        return bool(self._doing(lambda: self._delivery.handle_stored(*lane)))

    def _captured(self) -> list[Row]:
        return [row for row in self._tap.heard(0) if row.name in self._channels]

    def _handle_captured(self, row: Row) -> None:
        """Handle a message that was captured, or have it stored if its channel is durable."""
        self._captures.keep(self._using)
        self._tap.forget([row])
        if row.raw and not self._delivery.accepts(row.name, row.text, 0):
            self._delivery.signatures.report()
        elif self._channels[row.name].lock_notifications:
            self._delivery.store(row.name, [row.text])
        else:
            self._doing(lambda: self._delivery.handle_ephemeral(row.name, deque([row.text])))

    def _doing(self, handle: Callable[[], Any]) -> Any:
        """Have messages handled, run their callbacks, and raise the first error if it is to."""
        connection = connections[self._using]
        first, before = count_callbacks(connection), len(self.handled)
        result = handle()
        self._record.forget_unfinished()
        if connection.in_atomic_block:  # or the commit has run them
            run_callbacks(connection, first)
        if self._raises:
            for one in self.handled[before:]:
                if one.error is not None and not one.discarded:
                    raise one.error
        return result

    def _observe(self, attempts: Sequence[Attempt]) -> None:
        for one in self._record.ended(attempts):
            self.handled.add(one)

    def _advance(self) -> bool:
        ((moved,),) = ask(self._using, "advance_to_next", channels=[*self._channels])
        return bool(moved)

    def _is_full(self) -> bool:
        return len(self.handled) + self._record.running >= self._limit

    def _is_left(self, waiting: bool) -> bool:
        is_ready = self._delivery.count_ready() or self._captured()
        return bool(is_ready or (waiting and self._delivery.next_ready()))


def _lanes(channels: Sequence[type[BaseChannel]], subscription: str | None) -> list[Lane]:
    """Return the subscriptions of *channels*, or those of one name.

    Raises :class:`ValueError` if none of them has that name.
    """
    lanes = registry.lanes_of(channels)
    if subscription is None:
        return lanes
    found = [lane for lane in lanes if lane.subscription == subscription]
    if not found:
        names = ", ".join(sorted({repr(lane.subscription) for lane in lanes})) or "none"
        raise ValueError(
            f"No listener of these channels names the subscription {subscription!r}. They have "
            f"{names}."
        )
    return found
