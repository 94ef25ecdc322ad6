"""The outbox: stored messages of a channel that are published, and then deleted, in order."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import connections, transaction

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream, partition_of
from pgpubsub_sql.relay.publishing import (
    BATCH_BYTES,
    LARGEST_BATCH,
    Outgoing,
    batches,
    outgoing,
    publish,
    too_large,
)
from pgpubsub_sql.relay.streams import streams_of
from pgpubsub_sql.sql import query

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Row(NamedTuple):
    """A stored message."""

    id: int
    payload: str
    key: str | None
    created_at: datetime.datetime
    has_expired: bool
    schema: str


def message_id(origin: str, row: Row) -> str:
    """Return the id of a message: a UUID of version 7 with the time at which it was stored.

    It is computed, not stored, so that it is the same however often the message is published, also
    by another process, or after a restore. A message of the same number that a restored database
    stores later has another time.
    """
    moment = (row.created_at - _EPOCH) // datetime.timedelta(milliseconds=1)
    text = "\0".join([origin, row.schema, str(row.id), row.created_at.isoformat()])
    digest = hashlib.sha256(text.encode()).digest()
    value = int.from_bytes(moment.to_bytes(6, "big") + digest[:10], "big")
    value = value & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What became of some stored messages."""

    published: int = 0
    parked: int = 0
    expired: int = 0

    def __bool__(self) -> bool:
        return bool(self.published or self.parked or self.expired)


class Outbox:
    """Publishes the stored messages of *channel* in the database *using*.

    One transaction at a time does that, under a lock on the channel, so that they keep their order.
    """

    def __init__(self, broker: Broker, channel: type[BaseChannel], *, using: str) -> None:
        self._broker = broker
        self._using = using
        self._name = channel.postgres_name()
        self._origin = broker.settings.publisher()
        self._streams = streams_of(self._origin, self._name, broker.settings)

    def publish_next(self) -> Published:
        """Publish some messages, and delete them once the broker has them.

        Nothing becomes of them if another process is at it. One that is too large for the broker is
        parked. Whatever fails on the way, they stay stored, and are sent again under the same ids.

        Raises :class:`BrokerUnavailable` and :class:`BrokerRefused`. What other streams have taken
        until then is deleted nevertheless.
        """
        with transaction.atomic(using=self._using):
            if not self._execute("lock_outbox", {"channel": self._name})[0][0]:
                return Published()
            values = {"channel": self._name, "limit": LARGEST_BATCH, "bytes": BATCH_BYTES}
            rows = [Row(*row) for row in self._execute("next_in_outbox", values)]
            messages = {row: self._outgoing(row) for row in rows if not row.has_expired}
            large = too_large(messages.values(), self._broker.max_payload)
            parked = [row for row, message in messages.items() if message in large]
            self._park(parked)
            sending = {row: one for row, one in messages.items() if row not in parked}
            sent, error = self._broker.run(self._publish(sending))
            expired = [row for row in rows if row.has_expired]
            self._execute("delete_from_outbox", {"ids": [row.id for row in [*sent, *expired]]})
        if error is not None:
            raise error
        return Published(published=len(sent), parked=len(parked), expired=len(expired))

    def _outgoing(self, row: Row) -> Outgoing:
        return outgoing(
            origin=self._origin,
            channel=self._name,
            message_id=message_id(self._origin, row),
            payload=row.payload,
            created_at=row.created_at,
            key=row.key,
        )

    async def _publish(
        self, messages: dict[Row, Outgoing]
    ) -> tuple[list[Row], BaseException | None]:
        """Publish to all streams at once; return what they have taken, and an error of one."""
        shares: dict[Stream, dict[Row, Outgoing]] = defaultdict(dict)
        for row, message in messages.items():
            number = partition_of(row.key, str(row.id), len(self._streams))
            shares[self._streams[number]][row] = message
        results = await asyncio.gather(
            *(self._publish_share(stream, share.values()) for stream, share in shares.items()),
            return_exceptions=True,
        )
        sent = [
            row
            for share, result in zip(shares.values(), results, strict=True)
            if result is None
            for row in share
        ]
        return sent, next((result for result in results if result is not None), None)

    async def _publish_share(self, stream: Stream, messages: Iterable[Outgoing]) -> None:
        for batch in batches(messages):
            await publish(self._broker, stream, batch)

    def _park(self, rows: Sequence[Row]) -> None:
        limit = self._broker.max_payload
        reason = (
            f"The message is larger than the {limit} bytes that the broker takes, headers included."
            " Send less, or raise max_payload in the configuration of its servers and replay it."
        )
        if rows:
            self._execute("park_in_outbox", {"ids": [row.id for row in rows], "error": reason})

    def _execute(self, name: str, values: dict[str, Any]) -> list[Any]:
        with connections[self._using].cursor() as cursor:
            cursor.execute(query(name), values)
            return list(cursor.fetchall()) if cursor.description else []
