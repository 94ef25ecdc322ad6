"""Raw NOTIFYs on durable channels: their sender did not store them, so a worker does."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from django.db import DatabaseError, transaction

from pgpubsub_sql.channels import BaseChannel, TriggerChannel, is_notified, key_names
from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.retry import Backoff
from pgpubsub_sql.worker.decoding import decode_headers
from pgpubsub_sql.worker.long_payloads import LongPayloads
from pgpubsub_sql.worker.outcomes import storable
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

MAX_WAITING = 10_000
"""Most messages of a channel that wait to be stored. When more arrive, the oldest are dropped."""
MAX_WAITING_SECONDS = 600.0
"""A message that cannot be stored for this long is dropped."""
STORED_TOGETHER = 100
"""Most messages that one statement stores."""


class RawNotify(NamedTuple):
    """A message that waits to be stored."""

    payload: str
    until: float
    """When it is dropped, by the monotonic clock."""


class RawNotifies:
    """Raw NOTIFYs of one channel that its elected worker has received and not stored yet.

    A message that is not a JSON object, or that jsonb refuses, is stored as text in
    ``{"$raw": "…"}``, and parked by the worker that claims it. A message that the database refuses
    even then is tried again with growing delays, and dropped in the end. It never delays others.
    """

    def __init__(self, channel: type[BaseChannel], session: Session) -> None:
        self._name = channel.postgres_name()
        self._session = session
        self._long_payloads = LongPayloads(session)
        self._is_notified = is_notified(channel)
        self._parameters = {
            "channel": self._name,
            "key": key_names(channel),
            "rows": issubclass(channel, TriggerChannel),
        }
        self._waiting: deque[RawNotify] = deque(maxlen=MAX_WAITING)
        self._refused: deque[RawNotify] = deque(maxlen=MAX_WAITING)
        self._retry_at = 0.0
        self._backoff = Backoff()
        self._error: Exception | None = None
        """The last error of a message that was refused."""

    def add(self, payloads: Iterable[str], schema: str) -> None:
        """Add messages from this *schema*, or from an unknown one."""
        until = time.monotonic() + MAX_WAITING_SECONDS
        for payload in payloads:
            if _schema_of(payload) in (None, schema):
                self._waiting.append(RawNotify(payload, until))

    def store(self) -> None:
        """Store waiting messages in order, and refused ones if they are due.

        Raises nothing; errors are logged.
        """
        now = time.monotonic()
        is_due = self._retry_at <= now
        if is_due:
            self._waiting.extend(self._refused)
            self._refused.clear()
        self._store_waiting(now)
        if not self._refused:
            self._backoff = Backoff()
        elif is_due:
            self._retry_at = now + self._backoff.fail()
            self._log_refused()

    def _store_waiting(self, now: float) -> None:
        stored = 0
        while self._waiting:
            some = [
                self._waiting.popleft() for _ in range(min(STORED_TOGETHER, len(self._waiting)))
            ]
            left = self._store_and_ring(some)
            self._refused.extend(notify for notify in left if not self._is_dropped(notify, now))
            stored += len(some) - len(left)
            if len(left) == len(some):
                break
        if stored:
            self._log_stored(stored)

    def _store_and_ring(self, notifies: list[RawNotify]) -> list[RawNotify]:
        """Store *notifies*; return those that could not be stored."""
        try:
            with transaction.atomic(using=self._session.using):
                left = self._store(notifies)
                if len(left) < len(notifies) and self._is_notified:
                    self._session.execute("ring", {"channels": [self._name]})
        except Exception as error:  # noqa: BLE001 - no error may hinder delivery
            self._error, left = error, notifies
            self._session.drop_if_broken()
        return left

    def _store(self, notifies: list[RawNotify]) -> list[RawNotify]:
        """Store *notifies* with one statement, or one by one if that fails; return those left."""
        try:
            self._insert(notifies)
        except DatabaseError:
            if len(notifies) > 1:
                return [left for notify in notifies for left in self._store([notify])]
            try:
                self._insert(notifies, as_text=True)
            except DatabaseError as error:
                self._error = error
                return notifies
        return []

    def _insert(self, notifies: list[RawNotify], *, as_text: bool = False) -> None:
        with transaction.atomic(using=self._session.using):
            sent = [notify.payload for notify in notifies]
            payloads = list(map(_raw, sent)) if as_text else self._readable(sent)
            self._session.execute("store_raw_notifies", self._parameters | {"payloads": payloads})

    def _readable(self, payloads: list[str]) -> list[str]:
        """Return JSON objects: messages, the long payloads they refer to, or their text in one."""
        return [self._read(payload, payloads[place:]) for place, payload in enumerate(payloads, 1)]

    def _read(self, payload: str, following: list[str]) -> str:
        try:
            reference = decode_headers(payload).ref
            if reference is not None:
                return self._long_payloads.get(reference, following)
        except PayloadError:
            return _raw(payload)
        return payload if payload.lstrip().startswith("{") else _raw(payload)

    def _is_dropped(self, notify: RawNotify, now: float) -> bool:
        if notify.until > now:
            return False
        message = (
            "Dropped a raw NOTIFY on the durable channel %s, because the database "
            "refused to store it for ten minutes: %s"
        )
        text = brief(storable(notify.payload))
        logger.error(message, self._name, text, extra={"channel": self._name})
        return True

    def _log_refused(self) -> None:
        message = (
            "Cannot store raw NOTIFYs on the durable channel %s (messages: %s): %s. They are tried "
            "again, and dropped after ten minutes. Stored messages are not affected."
        )
        count, reason = len(self._refused) + len(self._waiting), str(self._error).strip()
        extra = {"channel": self._name, "count": count}
        logger.warning(message, self._name, count, reason, extra=extra)

    def _log_stored(self, stored: int) -> None:
        message = (
            "Stored raw NOTIFYs on the durable channel %s (messages: %s). A NOTIFY has no "
            "identity, so such a message can be lost or stored twice when a worker stops. Send it "
            "with SELECT pgpubsub_notify(channel, payload) instead. If triggers or notify() still "
            "send by NOTIFY, that ends once migrate has run and every process is restarted."
        )
        extra = {"channel": self._name, "count": stored}
        logger.warning(message, self._name, stored, extra=extra)


def _schema_of(payload: str) -> object:
    try:
        return decode_headers(payload).schema
    except PayloadError:
        return None


def _raw(payload: str) -> str:
    return json.dumps({"$raw": storable(payload)})
