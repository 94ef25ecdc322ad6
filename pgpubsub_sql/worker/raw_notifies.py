"""Data that came by NOTIFY on a durable channel. Its sender did not store it, so a worker does."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import DatabaseError, transaction

from pgpubsub_sql.channels import BaseChannel, TriggerChannel, model_of
from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.retry import Backoff
from pgpubsub_sql.worker.decoding import decode_headers, long_payload
from pgpubsub_sql.worker.outcomes import storable
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

KEPT = 10_000
"""How many messages of a channel wait to be stored. When more come, the oldest are dropped."""
KEPT_SECONDS = 600.0
"""A message that cannot be stored for this long is dropped."""
AT_ONCE = 100
"""How many messages one statement stores."""


class RawNotify(NamedTuple):
    """A message that waits to be stored."""

    payload: str
    until: float
    """When it is dropped, by the monotonic clock."""


class RawNotifies:
    """What the elected worker of one channel has heard and not stored yet.

    What is no JSON object, or holds what jsonb refuses, is stored as its text in ``{"$raw": "…"}``
    and parked by the worker that takes it. What the database refuses even so is tried again less
    and less often, and dropped in the end. It never delays anything else.
    """

    def __init__(self, channel: type[BaseChannel], session: Session) -> None:
        self._name = channel.postgres_name()
        self._session = session
        self._parameters = {
            "channel": self._name,
            "key": _key(channel),
            "rows": issubclass(channel, TriggerChannel),
        }
        self._waiting: deque[RawNotify] = deque(maxlen=KEPT)
        self._refused: deque[RawNotify] = deque(maxlen=KEPT)
        self._retry_at = 0.0
        self._backoff = Backoff()
        self._error: Exception | None = None
        """Why the last refused one was refused."""

    def add(self, payloads: Iterable[str], schema: str) -> None:
        """Keep messages that were sent from this *schema*, or do not say from where."""
        until = time.monotonic() + KEPT_SECONDS
        for payload in payloads:
            if _schema_of(payload) in (None, schema):
                self._waiting.append(RawNotify(payload, until))

    def store(self) -> None:
        """Store what waits, in its order, and what was refused, if that is due.

        Raises nothing: errors are logged.
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
            self._log_trouble()

    def _store_waiting(self, now: float) -> None:
        stored = 0
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            left = self._store_and_ring(some)
            self._refused.extend(notify for notify in left if not self._is_given_up(notify, now))
            stored += len(some) - len(left)
            if len(left) == len(some):
                break
        if stored:
            self._tell(stored)

    def _store_and_ring(self, notifies: list[RawNotify]) -> list[RawNotify]:
        """Store *notifies*; return those that could not be stored."""
        try:
            with transaction.atomic(using=self._session.using):
                left = self._store(notifies)
                if len(left) < len(notifies):
                    self._session.execute("ring", {"channels": [self._name]})
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not hinder delivery
            self._error, left = error, notifies
            self._session.drop_if_broken()
        return left

    def _store(self, notifies: list[RawNotify]) -> list[RawNotify]:
        """Store *notifies* by one statement, or else each by itself; return those that are left."""
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
            read = _raw if as_text else self._readable
            payloads = [read(notify.payload) for notify in notifies]
            self._session.execute("store_raw_notifies", self._parameters | {"payloads": payloads})

    def _readable(self, payload: str) -> str:
        """Return a JSON object: the message, the one that it refers to, or what holds its text."""
        try:
            reference = decode_headers(payload).ref
            if reference is not None:
                return long_payload(self._session, reference)
        except PayloadError:
            return _raw(payload)
        return payload if payload.lstrip().startswith("{") else _raw(payload)

    def _is_given_up(self, notify: RawNotify, now: float) -> bool:
        if notify.until > now:
            return False
        message = (
            "Dropped a message that came by NOTIFY on the durable channel %s, because the database "
            "refused to store it for ten minutes: %s"
        )
        text = brief(storable(notify.payload))
        logger.error(message, self._name, text, extra={"channel": self._name})
        return True

    def _log_trouble(self) -> None:
        message = (
            "Cannot store what came by NOTIFY on the durable channel %s (messages: %s): %s. It is "
            "tried again, and dropped after ten minutes. Messages that are stored are not affected."
        )
        count, reason = len(self._refused) + len(self._waiting), str(self._error).strip()
        extra = {"channel": self._name, "count": count}
        logger.warning(message, self._name, count, reason, extra=extra)

    def _tell(self, stored: int) -> None:
        message = (
            "Stored what came by NOTIFY on the durable channel %s (messages: %s). A NOTIFY has no "
            "identity, so such a message can be lost or stored twice when a worker stops. Send it "
            "with SELECT pgpubsub_notify(channel, payload) instead. If triggers or notify() still "
            "send by NOTIFY, that ends once migrate has run and every process is restarted."
        )
        extra = {"channel": self._name, "count": stored}
        logger.warning(message, self._name, stored, extra=extra)


def _key(channel: type[BaseChannel]) -> list[str]:
    """Return the names that the fields of the ordering key have in a message."""
    names = channel.ordering_fields()
    if issubclass(channel, TriggerChannel):
        fields: Any = map(model_of(channel)._meta.get_field, names)
        return [field.column for field in fields]
    return list(names)


def _schema_of(payload: str) -> object:
    try:
        return decode_headers(payload).schema
    except PayloadError:
        return None


def _raw(payload: str) -> str:
    return json.dumps({"$raw": storable(payload)})
