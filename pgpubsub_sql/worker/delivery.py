"""Take, handle, put back: what happens to messages. Knows no socket."""

from __future__ import annotations

import datetime
import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.apps import apps
from django.db import connections, transaction
from django.utils import timezone

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.messages import Message, decode_envelope, decode_message
from pgpubsub_sql.worker.outcomes import (
    Done,
    GiveBack,
    Outcome,
    Park,
    Taken,
    TryAgain,
    after_failure,
    row_to_put_back,
)

logger = logging.getLogger("pgpubsub_sql.worker")

BATCH_SECONDS = 0.05
"""A batch ends after about this long, so that its transaction stays short."""
FIRST_BATCH = 10
LARGEST_BATCH = 500


class Delivery:
    """Brings messages of *channels* to their listeners, on Django's connection *using*.

    *stopping* is asked between two messages; once it says yes, what was taken but not reached
    is given back.
    """

    def __init__(
        self,
        channels: Iterable[type[BaseChannel]],
        *,
        using: str,
        schema: str = "",
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.channels = {channel.postgres_name(): channel for channel in channels}
        self.using = using
        self.schema = schema
        """The schema this connection works in; messages from others are for others."""
        self.stopping = stopping
        self._listeners = {
            name: registry.listeners_of(channel) for name, channel in self.channels.items()
        }
        self._limits: dict[str, int] = defaultdict(lambda: FIRST_BATCH)
        self._undone: set[str] = set()
        """Channels whose last batch was rolled back."""
        self._looked_ahead: datetime.datetime | None = None

    def next_ready(self) -> dict[str, float]:
        """Return the seconds until each channel's next stored notification is ready.

        What was ready at the call before this one is left out. It is in another worker's hands,
        or :meth:`handle_stored` would have taken it since.
        """
        with connections[self.using].cursor() as cursor:
            cursor.execute(
                query("next_ready"), {"channels": list(self.channels), "after": self._looked_ahead}
            )
            rows = cursor.fetchall()
        if rows:
            self._looked_ahead = rows[0][2]
        return {name: seconds for name, seconds, _ in rows}

    def sweep(self) -> None:
        """Delete the long payloads that have expired."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("sweep"))

    def handle_stored(self, name: str) -> bool:
        """Take, handle and put back one batch of a channel; return whether to look again at once.

        What escapes from a message, a lost connection or a failure at COMMIT, undoes its batch.
        The next batch is of one: it succeeds, or the failure is known to be its own.

        Raises what hinders taking, which is no notification's fault.
        """
        taken: list[Taken] = []
        limit = 1 if name in self._undone else self._limits[name]
        try:
            with self._transaction(name):
                taken += self._take(name, limit)
                reached = self._handle_and_put_back(taken)
        except Exception:  # whatever it is, it is this batch's outcome
            if not taken:
                raise
            self._rolled_back(name, taken)
            return True
        self._undone.discard(name)
        if reached < len(taken):
            self._limits[name] = reached or 1
        elif reached == limit:
            self._limits[name] = min(2 * limit, LARGEST_BATCH)
        return reached == limit or reached < len(taken)

    def handle_sent(self, name: str, payload: str) -> None:
        """Handle one message that was sent and not stored. Its failure is logged, and ends it."""
        try:
            envelope = decode_envelope(payload)
            if envelope.schema not in (None, self.schema):
                return
            if envelope.ref is not None:
                payload = self._long_payload(envelope.ref)
            message = decode_message(self.channels[name], payload, using=self.using)
            notification = self._notification(channel=name, payload=None, created_at=timezone.now())
            with self._transaction(name):
                self._call_listeners(message, notification)
        except PayloadError as error:
            logger.error("A message on channel %s was dropped: %s", name, error)
        except (Exception, SystemExit):  # whatever a listener raises ends its message only
            logger.exception("A message on channel %s failed; it will not be retried.", name)
            self.drop_broken_connection()

    def drop_broken_connection(self) -> None:
        """After a failure: have the next query open a new connection, unless this one works."""
        connection = connections[self.using]
        if not connection.is_usable():
            connection.close()

    @contextmanager
    def _transaction(self, name: str) -> Iterator[None]:
        """A transaction whose callbacks cannot fail it: they run when it is committed already."""
        with transaction.atomic(using=self.using):
            yield
            connection: Any = connections[self.using]  # the stubs know no third part
            connection.run_on_commit = [
                (savepoints, partial(_call_back, name, function), robust)
                for savepoints, function, robust in connection.run_on_commit
            ]

    def _take(self, name: str, limit: int) -> list[Taken]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("take"), {"channel": name, "limit": limit})
            return [Taken(*row) for row in cursor.fetchall()]

    def _handle_and_put_back(self, taken: list[Taken]) -> int:
        """Handle what time allows, put back what is not done, return how many were reached."""
        deadline = time.monotonic() + BATCH_SECONDS
        back, reached = [], 0
        for one in taken:
            outcome: Outcome = GiveBack()
            if not self.stopping() and (time.monotonic() < deadline or not reached):
                outcome = self._handle(one)
                reached += 1
            if row := row_to_put_back(one, outcome):
                back.append(row)
        if back:
            self._put_back(back)
        if reached < len(taken) and self.stopping():
            self._ring(taken[0].channel)
        return reached

    def _rolled_back(self, name: str, taken: list[Taken]) -> None:
        """Decide what becomes of a batch that was rolled back; the exception is in hand."""
        self.drop_broken_connection()
        if name not in self._undone:
            self._undone.add(name)
            logger.warning(
                "A batch of channel %s was rolled back; it will be taken again one by one.",
                name,
                exc_info=True,
            )
            return
        self._charge(taken[0], self._failed(taken[0]))
        self._undone.discard(name)

    def _charge(self, taken: Taken, outcome: Outcome) -> None:
        """Write down the failure of a notification that is no longer in hand."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("charge"), row_to_put_back(taken, outcome))

    def _put_back(self, rows: list[dict[str, Any]]) -> None:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("put_back"), columns)

    def _ring(self, name: str) -> None:
        """Tell the workers that go on of what is given back."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("ring"), {"channels": [name]})

    def _handle(self, taken: Taken) -> Outcome:
        channel = self.channels[taken.channel]
        try:
            message = decode_message(channel, taken.payload, using=self.using)
        except PayloadError as error:
            logger.error("Notification %s was parked: %s", taken.id, error)
            return Park(str(error))
        notification = self._notification(
            id=taken.id,
            channel=taken.channel,
            payload=None,
            created_at=taken.created_at,
            attempts=taken.attempts,
        )
        try:
            with transaction.atomic(using=self.using):
                self._call_listeners(message, notification)
                # Django's foreign keys are deferred: what breaks one must break its own message.
                connections[self.using].check_constraints()
                self._forget_settings()
        except (Exception, SystemExit):  # noqa: BLE001 - its message's outcome
            return self._failed(taken)
        return Done()

    def _forget_settings(self) -> None:
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("forget_settings"))

    def _failed(self, taken: Taken) -> Outcome:
        """Log the exception in hand and return what becomes of the notification."""
        outcome = after_failure(taken, traceback.format_exc())
        match outcome:
            case TryAgain(after=after):
                next_step = f"will be retried in {after.total_seconds():g} seconds"
            case Park():
                next_step = "is parked"
        logger.exception(
            "Notification %s of channel %s failed and %s.", taken.id, taken.channel, next_step
        )
        return outcome

    def _call_listeners(self, message: Message, notification: Any) -> None:
        extras = {"context": message.context, "notification": notification}
        for listener in self._listeners[notification.channel]:
            if listener.accepts(message.event):
                listener.callback(**listener.arguments(message.fields, extras))

    def _long_payload(self, reference: Any) -> str:
        if not isinstance(reference, int):
            raise PayloadError(f"Its $ref {reference!r} is not the id of a long payload.")
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("long_payload"), {"id": reference})
            row = cursor.fetchone()
        if row is None:
            raise PayloadError(f"Its long payload {reference!r} has expired or never was.")
        return str(row[0])

    def _notification(self, **values: Any) -> Any:
        notification = apps.get_model("pgpubsub_sql", "Notification")(**values)
        # By it a listener learns where to write so that it counts as this message's effect.
        notification._state.db = self.using
        return notification


def _call_back(name: str, function: Callable[[], object]) -> None:
    try:
        function()
    except (Exception, SystemExit):  # what it belongs to is committed, whatever it raises
        logger.exception(
            "A callback given to transaction.on_commit() by a listener of channel %s failed; "
            "the message itself was handled.",
            name,
        )
