"""The outbox: stored messages of a channel that are published, and then deleted, in order."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice, starmap
from typing import Any, NamedTuple

from django.db import connections, transaction

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import BrokerUnavailable
from pgpubsub_sql.keeping import is_kept, keep_taken, keeping
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream, parse, partition_of, prefix
from pgpubsub_sql.relay.owner import this_database
from pgpubsub_sql.relay.publishing import (
    BATCH_BYTES,
    CLOSED,
    LARGEST_BATCH,
    Outgoing,
    acknowledged,
    deadline,
    marker,
    outgoing,
    publish,
)
from pgpubsub_sql.relay.streams import newest, owned
from pgpubsub_sql.sql import part, query, render
from pgpubsub_sql.sql.own_tables import PUBLISHED_AGAIN
from pgpubsub_sql.sql.templates import NOTHING

logger = logging.getLogger("pgpubsub_sql.relay")

LOOK_SECONDS = 10.0
"""Time between two looks for streams of a newer generation."""
KEPT = keep_taken(
    is_unusual="bool_or(id = ANY (%(expired)s::bigint[]))",
    outcomes="array_agg(CASE WHEN id = ANY (%(expired)s) THEN 'expired' ELSE 'handled' END)",
    reasons="array_agg(CASE WHEN reason = %(again)s THEN reason::text ELSE '' END)",
)
NEXT = render("queries/next_in_outbox", size=part("queries/size"))
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class OutboxRow(NamedTuple):
    """A stored message."""

    id: int
    number: int
    """What it shares with its copies for other subscriptions."""
    payload: str
    key: str | None
    stored_at: int
    """Microseconds since 1970, whatever time zone the project's settings have."""
    has_expired: bool
    schema: str


def message_id(origin: str, row: OutboxRow) -> str:
    """Return the id of a message: a UUID of version 7 with the time at which it was stored.

    It is computed, not stored, so that it is the same however often the message is published, also
    by another process, or after a restore. A message of the same number that a restored database
    stores later has another time.
    """
    text = "\0".join([origin, row.schema, str(row.number), str(row.stored_at)])
    digest = hashlib.sha256(text.encode()).hexdigest()
    ms, variant = f"{row.stored_at // 1000:012x}", "89ab"[int(digest[3], 16) & 3]
    return f"{ms[:8]}-{ms[8:]}-7{digest[:3]}-{variant}{digest[4:7]}-{digest[7:19]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What became of some stored messages."""

    published: int = 0
    parked: list[int] = dataclasses.field(default_factory=list)
    """Ids of the messages that are too large for the broker."""
    expired: int = 0
    error: BaseException | None = None
    """Why one of the streams has not taken all of its messages, which are still stored."""

    def __bool__(self) -> bool:
        return bool(self.published or self.parked or self.expired)

    def check(self) -> None:
        """Raise :attr:`error`, if there is one."""
        if self.error is not None:
            raise self.error


class Outbox:
    """Publishes the messages of *channel* that are stored for the subscription ``relay``.

    One transaction at a time does that, under a lock on the channel, so that they keep their order.
    """

    def __init__(self, broker: Broker, channel: type[BaseChannel], *, using: str) -> None:
        self._broker = broker
        self._using = using
        self._channel = channel
        self._name = channel.postgres_name()
        self._kept = KEPT if is_kept(channel) else NOTHING
        self._origin = broker.settings.publisher()
        self._prefix = prefix(self._origin, self._name)
        self._found: list[Stream] = []
        """The streams of the channel that the broker had when it was asked last."""
        self._verified: set[Stream] = set()
        """Those that were this database's when they answered last."""
        self._silent: dict[Stream, BrokerUnavailable] = {}
        """Those that have never answered whose they are: nothing is published to them."""
        self._look_at = 0.0

    def publish_next(self) -> Published:
        """Publish some messages, and delete them once the broker has them.

        Nothing becomes of them if another process is at it. One that is too large for the broker is
        parked; the broker's own failures charge no message.

        Raises :class:`BrokerUnavailable` without a connection, and :class:`BrokerRefused` if
        another database publishes to the streams. What has failed later is returned, as some
        messages may have been taken.
        """
        largest = self._broker.max_payload  # before the transaction: it needs a connection
        self._look()
        while True:
            with transaction.atomic(using=self._using, durable=True):
                if not self._execute("lock_outbox", {"channel": self._name})[0][0]:
                    return Published()
                known = self._known()
                if not self._begin_newer(newest(known)):
                    until = deadline()
                    self._close_older(known, until)
                    return self._publish_stored(newest(known), largest, until)

    def _publish_stored(self, streams: Sequence[Stream], largest: int, until: float) -> Published:
        values = {"channel": self._name, "limit": LARGEST_BATCH, "bytes": BATCH_BYTES}
        rows = [OutboxRow(*row) for row in self._execute("next_in_outbox", values, NEXT)]
        messages = {row: self._outgoing(row) for row in rows if not row.has_expired}
        parked = [row for row, message in messages.items() if message.size > largest]
        self._park(parked, largest)
        sending = {row: one for row, one in messages.items() if row not in parked}
        sent, error = (
            self._broker.run(self._publish(sending, streams, until)) if sending else ([], None)
        )
        expired = [row for row in rows if row.has_expired]
        if gone := [row.id for row in [*sent, *expired]]:
            self._delete(gone, [row.id for row in expired])
        return Published(
            published=len(sent),
            parked=[row.id for row in parked],
            expired=len(expired),
            error=error,
        )

    def _look(self) -> None:
        """Ask the broker for the channel's streams, and whose they are, now and then."""
        if time.monotonic() >= self._look_at:
            ours = this_database(self._using)
            self._found, self._silent = self._broker.run(
                owned(self._broker, self._origin, self._name, ours, self._verified)
            )
            self._look_at = time.monotonic() + LOOK_SECONDS

    def _known(self) -> dict[Stream, bool]:
        """Return the streams that were published to, and whether each is closed.

        They are written down, so that everybody who holds the lock agrees.
        """
        rows = self._execute("outbox_streams", {"prefix": self._prefix})
        return {stream: last == CLOSED for name, last in rows if (stream := parse(name))}

    def _begin_newer(self, current: Sequence[Stream]) -> bool:
        """Write down the generation to publish to, if the broker has a newer one than *current*.

        Return whether it has. Nothing is sent before that is committed: once an older stream is
        closed, nobody may publish to it, whatever becomes of this process.
        """
        found = newest(self._found)
        if current and (not found or found[0].generation <= current[0].generation):
            return False
        for error in self._silent.values():
            raise error
        if len(found) == self._broker.settings.partitions:
            self._execute("add_outbox_streams", {"streams": [stream.name for stream in found]})
            return True
        self._look_at = 0.0
        raise BrokerUnavailable(
            f"The broker has {len(found)} streams of generation {found[0].generation} for "
            f"{self._name}, newer ones than those that were published to, but "
            f"{self._broker.settings.partitions} is the value of PGPUBSUB_RELAY['partitions'] "
            "here. Give all relays the same value, then run: python manage.py pgpubsub relay "
            "--setup"
            if current
            else f"The streams of {self._name} do not exist on the broker, or not as many as "
            "PGPUBSUB_RELAY['partitions'] says. Run: python manage.py pgpubsub relay --setup"
        )

    def _close_older(self, known: Mapping[Stream, bool], until: float) -> None:
        """Mark the end of older streams; receivers begin newer ones once they have all marks."""
        current = newest(known)[0].generation
        last = marker(self._origin, self._name)
        for stream in self._found:
            if stream.generation < current and not known.get(stream):
                self._broker.run(publish(self._broker, stream, [last], until))
                self._execute("close_outbox_stream", {"stream": stream.name, "closed": CLOSED})
                logger.info("Closed the stream %s: there is a newer generation", stream)

    def _outgoing(self, row: OutboxRow) -> Outgoing:
        return outgoing(
            origin=self._origin,
            channel=self._name,
            message_id=message_id(self._origin, row),
            payload=row.payload,
            created_at=_EPOCH + datetime.timedelta(microseconds=row.stored_at),
            key=row.key,
        )

    async def _publish(
        self, messages: dict[OutboxRow, Outgoing], streams: Sequence[Stream], until: float
    ) -> tuple[list[OutboxRow], BaseException | None]:
        """Publish to all streams at once; return what they have taken, and an error of one."""
        shares: dict[Stream, dict[OutboxRow, Outgoing]] = defaultdict(dict)
        for row, message in messages.items():
            number = partition_of(row.key, str(row.number), len(streams))
            shares[streams[number]][row] = message
        sent: list[OutboxRow] = []

        async def publish_share(stream: Stream, share: dict[OutboxRow, Outgoing]) -> None:
            if stream in self._silent:
                raise self._silent[stream]
            rows = iter(share)
            async for count in acknowledged(self._broker, stream, share.values(), until):
                sent.extend(islice(rows, count))

        results = await asyncio.gather(
            *starmap(publish_share, shares.items()), return_exceptions=True
        )
        return sent, next((result for result in results if result is not None), None)

    def _park(self, rows: Sequence[OutboxRow], limit: int) -> None:
        reason = (
            f"The message is larger than the {limit} bytes that the broker takes, headers included."
            " Send less, or raise max_payload in the configuration of its servers and replay it."
        )
        if rows:
            values = {"ids": [row.id for row in rows], "error": reason, "again": PUBLISHED_AGAIN}
            self._execute("park_in_outbox", values)

    def _delete(self, ids: list[int], expired: list[int]) -> None:
        kept = keeping(self._channel) if is_kept(self._channel) else {}
        values = {"ids": ids, "expired": expired, "again": PUBLISHED_AGAIN}
        text = render("queries/delete_from_outbox", kept=self._kept)
        self._execute("delete_from_outbox", values | kept, text)

    def _execute(self, name: str, values: dict[str, Any], text: str = "") -> list[Any]:
        with connections[self._using].cursor() as cursor:
            cursor.execute(text or query(name), values)
            return list(cursor.fetchall()) if cursor.description else []
