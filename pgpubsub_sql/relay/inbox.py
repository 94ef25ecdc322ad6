"""Storing what was received, each message once, in the transaction that moves the position."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError, connections, transaction

from pgpubsub_sql.channels import BaseChannel, TriggerChannel, is_notified, key_names
from pgpubsub_sql.relay.consumer import Incoming
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.position import StreamPosition, identity
from pgpubsub_sql.relay.publishing import CLOSED
from pgpubsub_sql.sql import query, sqlstate
from pgpubsub_sql.worker.outcomes import storable

_HEX = "[0-9a-fA-F]"
_SEVEN = re.compile(rf"({_HEX}{{8}})-({_HEX}{{4}})-7{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}")
"""A UUID of version 7, and its time: the newest stand together in the index."""

_REFUSALS = ("22", "54")
"""Classes of SQLSTATE with which jsonb refuses a text: bad data, and endless nesting."""


class Overtaken(Exception):
    """Somebody else has moved the position meanwhile, so nothing of this was stored."""


def inbox_id(stream: Stream, message_id: str) -> str:
    """Return the id in the inbox of a message of the origin and channel of *stream*, a UUID."""
    source = "\0".join((stream.origin, stream.channel, message_id))
    digest = hashlib.sha256(source.encode()).hexdigest()
    time = "".join(found.groups()) if (found := _SEVEN.fullmatch(message_id)) else ""
    return (time.lower() + digest)[:32]


class InboxWriter:
    """Stores messages of *channel* in the database *using*, and with them the position."""

    def __init__(self, using: str, channel: type[BaseChannel]) -> None:
        self._using = using
        self._is_notified = is_notified(channel)
        self._name = channel.postgres_name()
        self._parameters = {
            "channel": self._name,
            "key": key_names(channel),
            "rows": issubclass(channel, TriggerChannel),
        }

    def store(
        self, stream: Stream, position: StreamPosition, messages: Sequence[Incoming]
    ) -> StreamPosition:
        """Store those of *messages* that are new, in order, and return the position after them.

        Raises :class:`Overtaken` if the stored position is not *position*.
        """
        after = position.after(messages)
        with transaction.atomic(using=self._using):
            self._advance(stream, position, after)
            sent = [message for message in messages if message.message_id != CLOSED]
            if new := self._new(stream, sent):
                self._insert([message.payload for message in new])
                if self._is_notified:
                    self._execute("ring", {"channels": [self._name]})
        return after

    def _advance(self, stream: Stream, before: StreamPosition, after: StreamPosition) -> None:
        values = {
            "stream": stream.name,
            "created": before.created,
            "before": before.sequence,
            "sequence": after.sequence,
            "message_id": after.message_id,
        }
        if not self._execute("advance_position", values):
            raise Overtaken

    def _new(self, stream: Stream, messages: Sequence[Incoming]) -> list[Incoming]:
        """Return the messages that are not in the inbox, each id once, and add them to it."""
        ids = [self._id(stream, message) for message in messages]
        known = [one for one in ids if one is not None]
        rows = self._execute("remember", {"ids": known}) if known else []
        unseen = {id_ for (id_,) in rows}
        new = []
        for message, one in zip(messages, ids, strict=True):
            if one is None or one in unseen:
                unseen.discard(one)
                new.append(message)
        return new

    @staticmethod
    def _id(stream: Stream, message: Incoming) -> str | None:
        given = identity(message)
        return None if given is None else inbox_id(stream, given)

    def _insert(self, payloads: Sequence[bytes]) -> None:
        """Insert *payloads*; one that jsonb refuses becomes a text, which workers park."""
        try:
            with transaction.atomic(using=self._using):
                self._store([_object(payload) for payload in payloads])
        except DatabaseError as error:
            if sqlstate(error)[:2] not in _REFUSALS:
                raise
            if len(payloads) == 1:
                self._store([_text(payloads[0])])
            else:
                for payload in payloads:
                    self._insert([payload])

    def _store(self, payloads: list[str]) -> None:
        self._execute("store_raw_notifies", self._parameters | {"payloads": payloads})

    def _execute(self, name: str, values: dict[str, Any]) -> list[Any]:
        with connections[self._using].cursor() as cursor:
            cursor.execute(query(name), values)
            return list(cursor.fetchall()) if cursor.description else []


def _object(payload: bytes) -> str:
    """Return *payload* if it may be a JSON object; else its text in one."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return _text(payload)
    return text if text.lstrip().startswith("{") and "\0" not in text else _text(payload)


def _text(payload: bytes) -> str:
    return json.dumps({"$raw": storable(payload.decode(errors="backslashreplace"))})
