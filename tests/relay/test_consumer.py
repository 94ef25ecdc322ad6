"""A consumer: it reads from a sequence on, and says when it has ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgpubsub_sql.relay import consumer as module
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.consumer import Consumer, ConsumerGone
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.publishing import batches, publish
from tests.conftest import eventually
from tests.relay.test_publishing import message


def fill(broker: Broker, stream: Stream, *numbers: int, size: int = 0) -> None:
    for batch in batches(message(number, size=size) for number in numbers):
        broker.run(publish(broker, stream, batch))


def read(broker: Broker, stream: Stream, start: int, until: int) -> list[int]:
    """Return the sequences that a consumer reads, up to one."""

    async def go() -> list[int]:
        found: list[int] = []
        async with Consumer.opened(broker, stream, start) as consumer:
            while not found or found[-1] < until:
                found += [one.sequence for one in await consumer.read()]
        return found

    return broker.run(go(), 30)


@pytest.mark.parametrize("start", [1, 700])
def test_it_reads_on_beyond_what_it_asks_for_at_a_time(
    broker: Broker, stream: Stream, start: int
) -> None:
    fill(broker, stream, *range(2 * module.PULLED + 100))
    assert read(broker, stream, start, 2 * module.PULLED + 100) == list(
        range(start, 2 * module.PULLED + 101)
    )


def test_a_message_has_its_id_and_its_payload(broker: Broker, stream: Stream) -> None:
    fill(broker, stream, 7)
    broker.run(broker.request(stream.subject, b"\xff"))

    async def go() -> Any:
        async with Consumer.opened(broker, stream, 1) as consumer:
            found = await consumer.read()
            return found if len(found) == 2 else found + await consumer.read()

    one, other = broker.run(go(), 10)
    assert (one.sequence, one.message_id, one.payload) == (1, "id-7", message(7).payload)
    assert (other.sequence, other.message_id, other.payload) == (2, None, b"\xff")


def test_large_messages_do_not_stop_it(broker: Broker, stream: Stream) -> None:
    """What is asked for at a time is bounded by bytes."""
    fill(broker, stream, *range(20), size=900_000)
    assert read(broker, stream, 1, 20) == list(range(1, 21))


def test_a_message_that_comes_later_is_waited_for(broker: Broker, stream: Stream) -> None:
    async def go() -> list[int]:
        async with Consumer.opened(broker, stream, 1) as consumer:
            reading = asyncio.ensure_future(consumer.read())
            await asyncio.wait({reading}, timeout=0.05)
            await publish(broker, stream, [message(1)])
            return [one.sequence for one in await reading]

    assert broker.run(go(), 10) == [1]


def test_it_is_deleted_at_the_end(broker: Broker, stream: Stream) -> None:
    fill(broker, stream, 1)
    read(broker, stream, 1, 1)
    eventually(lambda: broker.run(broker.api(f"CONSUMER.NAMES.{stream}"))["total"] == 0)


def test_its_end_is_noticed_at_once(broker: Broker, stream: Stream) -> None:
    async def go() -> None:
        async with Consumer.opened(broker, stream, 1) as consumer:
            reading = asyncio.ensure_future(consumer.read())
            await asyncio.wait({reading}, timeout=0.05)
            await broker.api(f"CONSUMER.DELETE.{stream}.{consumer._name}")
            await reading

    with pytest.raises(ConsumerGone, match="409 Consumer Deleted"):
        broker.run(go(), module.HEARTBEAT_SECONDS)


def test_asking_one_that_has_ended_is_noticed_at_once(broker: Broker, stream: Stream) -> None:
    async def go() -> None:
        async with Consumer.opened(broker, stream, 1) as consumer:
            await broker.api(f"CONSUMER.DELETE.{stream}.{consumer._name}")
            await consumer.read()

    with pytest.raises(ConsumerGone, match="503"):
        broker.run(go(), module.HEARTBEAT_SECONDS)


def test_silence_is_noticed(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for is forgotten where nats-py reconnects by itself."""
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(Consumer, "_pull", lambda consumer: asyncio.sleep(0))

    async def go() -> None:
        async with Consumer.opened(broker, stream, 1) as consumer:
            await consumer.read()

    with pytest.raises(ConsumerGone, match="the broker is silent"):
        broker.run(go(), 10)


def test_heartbeats_are_no_silence(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.1)

    async def go() -> bool:
        async with Consumer.opened(broker, stream, 1) as consumer:
            reading = asyncio.ensure_future(consumer.read())
            await asyncio.wait({reading}, timeout=1)
            is_waiting = not reading.done()
            reading.cancel()
            return is_waiting

    assert broker.run(go(), 10)


def test_it_asks_again_after_what_it_asked_for_has_expired(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(module, "EXPIRES_SECONDS", 1)

    async def go() -> list[int]:
        async with Consumer.opened(broker, stream, 1) as consumer:
            reading = asyncio.ensure_future(consumer.read())
            await asyncio.wait({reading}, timeout=1.5)
            await publish(broker, stream, [message(1)])
            return [one.sequence for one in await reading]

    assert broker.run(go(), 10) == [1]
