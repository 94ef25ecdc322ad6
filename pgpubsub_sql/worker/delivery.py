"""Take, handle, put back: what happens to messages. Knows no socket."""

from __future__ import annotations

import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
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
        schema: str,
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

    def next_ready(self) -> dict[str, float]:
        """Return the seconds until each channel's next stored notification is ready."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("next_ready"), {"channels": list(self.channels)})
            return dict(cursor.fetchall())

    def sweep(self) -> None:
        """Delete the long payloads that have expired."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("sweep"))

    def handle_stored(self, name: str) -> bool:
        """Take, handle and put back one batch of a channel; return whether to look again at once.

        What escapes, a lost connection or a failure at COMMIT, has undone the whole batch; the
        next one is of a single notification.
        """
        limit = self._limits[name]
        self._limits[name] = 1
        with transaction.atomic(using=self.using):
            taken = self._take(name, limit)
            reached = self._handle_and_put_back(taken)
        self._limits[name] = min(2 * limit, LARGEST_BATCH) if reached == limit else max(reached, 1)
        return reached == limit or reached < len(taken)

    def handle_sent(self, name: str, payload: str) -> None:
        """Handle one message that was sent and not stored. Its failure is logged, and ends it."""
        channel = self.channels[name]
        try:
            envelope = decode_envelope(payload)
            if envelope.schema not in (None, self.schema):
                return
            if envelope.ref is not None:
                payload = self._long_payload(envelope.ref)
            message = decode_message(channel, payload, using=self.using)
        except PayloadError as error:
            logger.error("A message on channel %s was dropped: %s", name, error)
            return
        notification = self._notification(channel=name, payload=None, created_at=timezone.now())
        try:
            with transaction.atomic(using=self.using):
                self._call_listeners(message, notification)
        except Exception:  # noqa: BLE001 - whatever a listener raises ends its message only
            logger.exception("A message on channel %s failed; it will not be retried.", name)

    def _take(self, name: str, limit: int) -> list[Taken]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("take"), {"channel": name, "limit": limit})
            taken = [Taken(*row) for row in cursor.fetchall()]
        # RETURNING promises no order.
        return sorted(taken, key=lambda one: (one.available_at, one.id))

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
        return reached

    def _put_back(self, rows: list[dict[str, Any]]) -> None:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        with connections[self.using].cursor() as cursor:
            cursor.execute(query("put_back"), columns)

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
        except Exception:  # noqa: BLE001 - whatever a listener raises is its message's outcome
            return self._failed(taken)
        return Done()

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
        return apps.get_model("pgpubsub_sql", "Notification")(**values)
