"""Publishing: messages reach a stream in order, and none before all that precede it.

The first occurrences in a stream are therefore in order, whoever sends again what it has not seen
acknowledged: two relays at once need no fence.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
import uuid
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import cached_property, lru_cache, partial
from typing import Any
from urllib.parse import quote

from pgpubsub_sql.errors import BrokerRefused, BrokerUnavailable
from pgpubsub_sql.relay.broker import Broker, refusal
from pgpubsub_sql.relay.names import Stream

LARGEST_BATCH = 1000
"""Most messages that nats-server takes in one atomic batch."""
BATCH_BYTES = 4_000_000
"""Most bytes of the messages of one batch, unless a single one is larger."""
ACKNOWLEDGE_SECONDS = 2.0
"""How long one acknowledgement is awaited before the same is sent again."""
PUBLISH_SECONDS = 10.0
"""How long one transaction publishes, and sends again what is not acknowledged. A stream that has
lost its leader answers after up to 6 seconds."""
RETRY_SECONDS = 0.05

MESSAGE_ID = "Nats-Msg-Id"
CLOSED = "pgpubsub-closed"
"""Id of the last message of a stream, whose channel goes on in streams of a newer generation."""

_DUPLICATE = 10201
"""``err_code`` for a batch of which some messages are in the stream already, or in it twice."""
_INCOMPLETE = 10176
"""``err_code`` for a batch that lost messages on its way, or that a new leader does not know."""
_BATCH_HEADERS = 120
"""Bytes of the headers that make a message part of a batch."""
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A message to publish."""

    payload: bytes
    """JSON."""
    headers: Mapping[str, str]
    """NATS headers. The id among them is what receivers know it by, should they get it twice."""

    @cached_property
    def size(self) -> int:
        """Most bytes that count for the broker's ``max_payload``."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        return len(self.payload) + len(lines.encode()) + len("NATS/1.0\r\n\r\n") + _BATCH_HEADERS


def outgoing(
    *,
    origin: str,
    channel: str,
    message_id: str,
    payload: str,
    created_at: datetime.datetime,
    key: str | None = None,
) -> Outgoing:
    """Return a message with its id, and the attributes that CloudEvents wants in headers."""
    headers = {
        MESSAGE_ID: message_id,
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": message_id,
        "ce-source": f"/pgpubsub/{origin}",
        "ce-type": _header(channel),
        "ce-time": created_at.astimezone(datetime.UTC).isoformat()[: -len("+00:00")] + "Z",
    }
    if key is not None:
        headers["ce-partitionkey"] = _header(key)
    return Outgoing(payload=payload.encode(), headers=headers)


def marker(origin: str, channel: str) -> Outgoing:
    """Return the message that closes a stream."""
    now = datetime.datetime.now(datetime.UTC)
    return outgoing(origin=origin, channel=channel, message_id=CLOSED, payload="{}", created_at=now)


def batches(messages: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield *messages* in order, as many at a time as one batch may hold."""
    batch: list[Outgoing] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == LARGEST_BATCH or size + message.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message.size
    if batch:
        yield batch


def deadline() -> float:
    """Return until when a transaction that begins now publishes, by the monotonic clock."""
    return time.monotonic() + PUBLISH_SECONDS


async def publish(
    broker: Broker, stream: Stream, messages: Iterable[Outgoing], until: float | None = None
) -> None:
    """Do what :func:`acknowledged` does, and return once all *messages* are acknowledged."""
    async for _ in acknowledged(broker, stream, messages, until or deadline()):
        pass


async def acknowledged(
    broker: Broker, stream: Stream, messages: Iterable[Outgoing], until: float
) -> AsyncIterator[int]:
    """Publish *messages* to *stream* in order; yield how many more it has, each time it has some.

    They may be sent again after any failure, and then stand in the stream once: the broker knows
    the ids of the last two minutes, and receivers those before.

    Raises :class:`BrokerUnavailable` if that takes longer than *until*, and
    :class:`BrokerRefused`.
    """
    for batch in batches(messages):
        if len(batch) > 1 and await _insist(partial(_at_once, broker, stream, batch), until):
            yield len(batch)
            continue
        for message in batch:
            await _insist(partial(_one, broker, stream, message), until)
            yield 1


async def _insist(send: Callable[[], Awaitable[bool]], until: float) -> bool:
    """Send again while the broker is unavailable, for a while; return what *send* does."""
    failure = BrokerUnavailable(f"The broker has not taken all within {PUBLISH_SECONDS:g} s.")
    while time.monotonic() < until:
        try:
            return await send()
        except BrokerUnavailable as error:
            failure = error
        await asyncio.sleep(RETRY_SECONDS)
    raise failure


async def _at_once(broker: Broker, stream: Stream, batch: Sequence[Outgoing]) -> bool:
    """Send one atomic batch; return False if some of it is in the stream already."""
    name, last = uuid.uuid4().hex, len(batch)
    for number, message in enumerate(batch, 1):
        headers = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number), **message.headers}
        if number < last:
            await broker.send(stream.subject, message.payload, headers)
    headers["Nats-Batch-Commit"] = "1"
    answer = await broker.request(
        stream.subject, batch[-1].payload, headers, timeout=ACKNOWLEDGE_SECONDS
    )
    error = answer.get("error")
    if error is None:
        _check(stream, answer, count=last)
        return True
    if error.get("err_code") == _DUPLICATE:
        return False
    if error.get("err_code") == _INCOMPLETE:
        raise BrokerUnavailable(f"The stream {stream} has lost a part of a batch.")
    raise refusal(f"a batch for {stream}", error)


async def _one(broker: Broker, stream: Stream, message: Outgoing) -> bool:
    """Send one message; return True."""
    answer = await broker.request(
        stream.subject, message.payload, message.headers, timeout=ACKNOWLEDGE_SECONDS
    )
    if "error" in answer:
        raise refusal(f"a message for {stream}", answer["error"])
    _check(stream, answer)
    return True


def _check(stream: Stream, answer: Mapping[str, Any], count: int | None = None) -> None:
    """Raise :class:`BrokerRefused` unless *stream* itself has acknowledged all of it."""
    if answer.get("stream") != stream.name:
        raise BrokerRefused(
            f"The stream {answer.get('stream')} takes the messages for {stream}. Remove the "
            f"subject {stream.subject} from it, then run: manage.py pgpubsub relay --setup"
        )
    if answer.get("count") != count:
        raise BrokerRefused(
            f"The stream {stream} acknowledged {answer.get('count')} messages of a batch of "
            f"{count}. Is its allow_atomic on? Run: manage.py pgpubsub relay --check"
        )


@lru_cache(maxsize=1024)
def _header(value: str) -> str:
    """Return *value* as CloudEvents writes it into a header: percent-encoded where it must be."""
    return quote(value, safe=_PRINTABLE)
