"""Reading of a stream: an ephemeral pull consumer without acknowledgements.

The receiver's own position says what is read, and nothing else does. A consumer may end, rewind or
skip at any time, so whoever reads compares each sequence with the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pgpubsub_sql.errors import BrokerUnavailable
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.publishing import MESSAGE_ID

PULLED = 1000
"""Messages that are asked for at a time. So many more are asked for once half have arrived."""
PULLED_BYTES = 8_000_000
EXPIRES_SECONDS = 30
HEARTBEAT_SECONDS = 2.0
"""The broker says so often that it is still there, if there is no message. After twice that time
without either, the consumer counts as gone."""
INACTIVE_SECONDS = 60
"""How long the broker keeps a consumer that nobody asks."""

_OLD_ACK_TOKENS = 9
"""Tokens of an acknowledgement's subject as today's servers write it. In the form that is to come,
the domain and the account are the third and the fourth."""
_HEARTBEAT, _ENDED = "100", ("404", "408")
_BATCH_IS_FULL = ("batch completed", "exceeds maxbytes")
"""Words of a status 409 that ends what was asked for, not the consumer."""


class ConsumerGone(Exception):
    """The consumer has ended, so another has to be made at the stored position."""


class MessagesSkipped(ConsumerGone):
    """The consumer has left messages out: it was made anew, or the stream lacks them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Incoming:
    """A message of a stream."""

    sequence: int
    """Its number in the stream, from 1 up."""
    message_id: str | None
    """What its sender knows it by; None if it gave nothing."""
    payload: bytes
    """As it was sent."""


class Consumer:
    """Reads *stream* from a sequence on; see :meth:`opened`."""

    def __init__(self, broker: Broker, stream: Stream, name: str) -> None:
        self._broker, self._stream, self._name = broker, stream, name
        self._inbox = broker.client.new_inbox()
        self._arrived: list[Incoming] = []
        self._pulls: dict[str, int] = {}
        """Number of messages that are still to come, by the subject that they come to."""
        self._count = 0
        self._changed = asyncio.Event()
        self._reason = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, broker: Broker, stream: Stream, start: int) -> AsyncIterator[Consumer]:
        """Make a consumer that begins at the sequence *start*, and delete it at the end.

        Raises :class:`BrokerUnavailable` and :class:`BrokerRefused`.
        """
        config = {
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE_SECONDS * 10**9,
        }
        made = await broker.api(
            f"CONSUMER.CREATE.{stream}", {"stream_name": stream.name, "config": config}
        )
        consumer = cls(broker, stream, made["name"])
        subscription = await broker.client.subscribe(f"{consumer._inbox}.*", cb=consumer._take)
        try:
            yield consumer
        finally:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
            with contextlib.suppress(BrokerUnavailable):
                await broker.send(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer._name}", b"")

    async def read(self) -> list[Incoming]:
        """Return what has arrived, at least one message, in the order of arrival.

        Raises :class:`ConsumerGone` and :class:`BrokerUnavailable`.
        """
        while not self._arrived:
            await self._pull()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), 2 * HEARTBEAT_SECONDS)
            except TimeoutError:
                raise ConsumerGone("the broker is silent") from None
            if self._reason and not self._arrived:
                raise ConsumerGone(self._reason)
        arrived, self._arrived = self._arrived[:PULLED], self._arrived[PULLED:]
        await self._pull()
        return arrived

    async def _pull(self) -> None:
        """Ask for more, unless enough is on its way."""
        if self._reason or len(self._arrived) + sum(self._pulls.values()) > PULLED // 2:
            return
        self._count += 1
        inbox = f"{self._inbox}.{self._count}"
        self._pulls[inbox] = PULLED
        request = {
            "batch": PULLED,
            "max_bytes": max(PULLED_BYTES, 2 * self._broker.max_payload),
            "expires": EXPIRES_SECONDS * 10**9,
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 10**9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._broker.send(subject, json.dumps(request).encode(), reply=inbox)

    async def _take(self, message: Any) -> None:
        """Take a message, or a status of one of the pulls."""
        if message.reply.startswith("$JS.ACK."):
            self._arrived.append(_incoming(message))
            self._count_off()
        elif message.subject in self._pulls:
            self._note(message.subject, message.headers or {})
        self._changed.set()

    def _count_off(self) -> None:
        """Count a message for the oldest pull, which the broker serves first."""
        for inbox in self._pulls:
            self._pulls[inbox] -= 1
            if not self._pulls[inbox]:
                del self._pulls[inbox]
            return

    def _note(self, inbox: str, headers: Mapping[str, str]) -> None:
        status, description = headers.get("Status", ""), headers.get("Description", "").strip()
        if status == _HEARTBEAT:
            return
        self._pulls.pop(inbox)
        is_over = status in _ENDED or any(words in description.lower() for words in _BATCH_IS_FULL)
        if not is_over:
            self._reason = f"the broker says {status} {description}".rstrip()


def _incoming(message: Any) -> Incoming:
    """Return *message*, to which a reply would be an acknowledgement that has its sequence."""
    tokens = message.reply.split(".")
    return Incoming(
        sequence=int(tokens[5] if len(tokens) == _OLD_ACK_TOKENS else tokens[7]),
        message_id=(message.headers or {}).get(MESSAGE_ID) or None,
        payload=message.data,
    )
