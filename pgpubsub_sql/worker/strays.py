"""Data that came by NOTIFY on a durable channel, where it should have been stored by its sender."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from django.db import DatabaseError, transaction

from pgpubsub_sql.channels import BaseChannel, TriggerChannel, model_of
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.sql import sqlstate
from pgpubsub_sql.worker.messages import decode_envelope, long_payload
from pgpubsub_sql.worker.outcomes import storable
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

_REFUSED = ("22", "54")
"""Classes of PostgreSQL's codes: no JSON, or not jsonb's; or too deeply nested even to tell."""


class Strays:
    """What one channel's elected worker has heard and not stored yet.

    What cannot be stored as it is, as it is no JSON object or nothing that jsonb holds, is kept as
    ``{"$raw": "…"}``; whoever takes it parks it.
    """

    def __init__(self, channel: type[BaseChannel], session: Session) -> None:
        self._name = channel.postgres_name()
        self._session = session
        self._parameters = {
            "channel": self._name,
            "key": _key(channel),
            "rows": issubclass(channel, TriggerChannel),
        }
        self._waiting: list[str] = []

    def add(self, payloads: Iterable[str], schema: str) -> None:
        """Keep what was sent from this *schema*, or does not say from where."""
        self._waiting += [one for one in payloads if _schema_of(one) in (None, schema)]

    def store(self) -> None:
        """Store what is kept, in its order.

        Raises what hinders it; then it is still kept.
        """
        if not self._waiting:
            return
        with transaction.atomic(using=self._session.using):
            self._store([self._readable(payload) for payload in self._waiting])
            self._session.execute("ring", {"channels": [self._name]})
        message = (
            "Stored what came by NOTIFY on the durable channel %s (messages: %s). When the worker "
            "that does so changes, such messages can be lost or stored twice, as a NOTIFY has no "
            "identity. Send them with SELECT pgpubsub_notify(channel, payload); what triggers and "
            "notify() still send so ends once all is migrated and restarted."
        )
        extra = {"channel": self._name, "count": len(self._waiting)}
        logger.warning(message, self._name, len(self._waiting), extra=extra)
        self._waiting.clear()

    def _store(self, payloads: list[str]) -> None:
        try:
            self._insert(payloads)
        except DatabaseError as error:
            if not sqlstate(error).startswith(_REFUSED):
                raise
            if len(payloads) == 1:
                self._insert([_raw(payloads[0])])
                return
            for payload in payloads:
                self._store([payload])

    def _insert(self, payloads: list[str]) -> None:
        with transaction.atomic(using=self._session.using):
            self._session.execute("store_strays", self._parameters | {"payloads": payloads})

    def _readable(self, payload: str) -> str:
        """Return a JSON object: the message, the one that it refers to, or what holds its text."""
        try:
            reference = decode_envelope(payload).ref
            if reference is not None:
                return long_payload(self._session, reference)
        except PayloadError:
            return _raw(payload)
        return payload if payload.lstrip().startswith("{") else _raw(payload)


def _key(channel: type[BaseChannel]) -> list[str]:
    """Return the names, as they travel, of what makes the ordering key."""
    names = channel.ordering_fields()
    if issubclass(channel, TriggerChannel):
        fields: Any = map(model_of(channel)._meta.get_field, names)
        return [field.column for field in fields]
    return list(names)


def _schema_of(payload: str) -> object:
    try:
        return decode_envelope(payload).schema
    except PayloadError:
        return None


def _raw(payload: str) -> str:
    return json.dumps({"$raw": storable(payload)})
