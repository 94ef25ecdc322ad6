"""Publishing: everything once, in order, in atomic batches, whatever was sent before."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from example.relay.servers import Nats
from pgpubsub_sql.errors import BrokerRefused, BrokerUnavailable
from pgpubsub_sql.relay import publishing
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.publishing import (
    BATCH_BYTES,
    LARGEST_BATCH,
    Outgoing,
    batches,
    outgoing,
    publish,
)
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import make

AT = datetime.datetime(2026, 1, 31, 10, tzinfo=datetime.UTC)


def message(number: int, *, size: int = 0) -> Outgoing:
    payload = json.dumps({"number": number, "mood": "good".ljust(size, "x")})
    return outgoing(
        origin="shop", channel="app.Job", message_id=f"id-{number}", payload=payload, created_at=AT
    )


def held(broker: Broker, stream: Stream) -> list[int]:
    """Return the numbers of the messages that a stream holds."""
    last = broker.run(broker.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"]

    async def get(sequence: int) -> int:
        found = await broker.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
        return int(json.loads(base64.b64decode(found["message"]["data"]))["number"])

    return [broker.run(get(sequence)) for sequence in range(1, last + 1)]


@pytest.mark.parametrize("count", [1, 2, LARGEST_BATCH])
def test_a_batch_arrives_whole_and_in_order(
    broker: Broker, stream: Stream, info: Callable[[Stream], dict[str, Any]], count: int
) -> None:
    (batch,) = batches(message(number) for number in range(count))
    broker.run(publish(broker, stream, batch))
    assert info(stream)["state"]["messages"] == count
    if count < 10:
        assert held(broker, stream) == list(range(count))


@pytest.mark.parametrize(("sent", "again"), [([0], [0, 1]), ([0, 1, 2], [0, 1, 2, 3]), ([1], [1])])
def test_what_is_there_already_is_not_doubled(
    broker: Broker, stream: Stream, sent: list[int], again: list[int]
) -> None:
    """Error 10201: a relay died after the acknowledgement, before its COMMIT."""
    for numbers in (sent, again):
        broker.run(publish(broker, stream, [message(number) for number in numbers]))
    assert held(broker, stream) == again


def test_an_acknowledgement_that_is_lost_is_no_loss_and_doubles_nothing(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, lost = broker.request, iter([True, True])

    async def forgetful(*arguments: Any, **options: Any) -> dict[str, Any]:
        answer = await request(*arguments, **options)
        if next(lost, False):
            raise BrokerUnavailable("lost")
        return answer

    monkeypatch.setattr(broker, "request", forgetful)
    broker.run(publish(broker, stream, [message(number) for number in range(3)]))
    assert held(broker, stream) == [0, 1, 2]


def test_a_part_that_is_lost_makes_the_batch_be_sent_again(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, lost = broker.send, iter([True])

    async def leaky(*arguments: Any, **options: Any) -> None:
        if not next(lost, False):
            await send(*arguments, **options)

    monkeypatch.setattr(broker, "send", leaky)
    broker.run(publish(broker, stream, [message(number) for number in range(3)]))
    assert held(broker, stream) == [0, 1, 2]


def test_a_broker_that_is_down_is_given_up_after_a_while(
    relay: RelaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 0.3)
    with Nats() as nats, Broker(RelaySettings(servers=tuple(nats.urls), replicas=1)) as broker:
        stream = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
        broker.run(make(broker, stream))
        nats.kill()
        with pytest.raises(BrokerUnavailable):
            broker.run(publish(broker, stream, [message(1), message(2)]), 10)


def test_a_broker_that_stalls_is_waited_for() -> None:
    """A stream that has lost its leader answers nothing for up to six seconds."""
    with Nats() as nats, Broker(RelaySettings(servers=tuple(nats.urls), replicas=1)) as broker:
        stream = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
        broker.run(make(broker, stream))
        (node,) = nats.nodes
        assert node.process is not None
        node.process.send_signal(signal.SIGSTOP)
        sending = publish(broker, stream, [message(1), message(2)])
        future = asyncio.run_coroutine_threadsafe(sending, broker.loop)
        with pytest.raises(TimeoutError):
            future.result(0.3)
        node.process.send_signal(signal.SIGCONT)
        future.result(20)
        assert held(broker, stream) == [1, 2]


def test_a_stream_that_does_not_exist_is_told(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 0.1)
    stream = Stream(origin="nobody", channel="app.Job", generation=1, partition=0)
    with pytest.raises(BrokerUnavailable, match="the stream does not exist"):
        broker.run(publish(broker, stream, [message(1)]), 5)


def test_a_subject_that_another_stream_takes_is_told(broker: Broker) -> None:
    stream = Stream(origin=broker.settings.publisher(), channel="x", generation=1, partition=0)
    broker.run(broker.api("STREAM.CREATE.greedy", {"name": "greedy", "subjects": [stream.subject]}))
    with pytest.raises(BrokerRefused, match=r"greedy takes the messages for .*Remove the subject"):
        broker.run(publish(broker, stream, [message(1)]), 5)


def test_what_is_too_large_with_its_headers_is_told_before_it_is_sent(
    broker: Broker, stream: Stream
) -> None:
    """nats-py compares the payload alone; the server then hangs up, again and again."""
    bare = message(1).size - len("good")
    fits = message(1, size=broker.max_payload - bare)
    over = message(2, size=broker.max_payload - bare + 1)
    assert fits.size == broker.max_payload < over.size
    broker.run(publish(broker, stream, [fits]), 5)
    broker.run(publish(broker, stream, [message(3), fits, message(4)]), 10)
    assert held(broker, stream) == [1, 3, 4]


def test_batches_are_bounded_by_number_and_by_bytes() -> None:
    counts = [len(batch) for batch in batches(message(number) for number in range(2500))]
    assert counts == [LARGEST_BATCH, LARGEST_BATCH, 500]
    large = [message(number, size=BATCH_BYTES // 3) for number in range(5)]
    assert [len(batch) for batch in batches(large)] == [2, 2, 1]
    assert [len(batch) for batch in batches([message(1, size=2 * BATCH_BYTES)])] == [1]
    assert list(batches([])) == []


def test_headers_are_attributes_of_cloudevents() -> None:
    headers = outgoing(
        origin="shop",
        channel="blog.PostReads",
        message_id="01936c1a-7e9b-7b1e-8c55-0123456789ab",
        payload="{}",
        created_at=AT.astimezone(datetime.timezone(datetime.timedelta(hours=2))),
        key='["Zoë", 1]',
    ).headers
    assert headers == {
        "Nats-Msg-Id": "01936c1a-7e9b-7b1e-8c55-0123456789ab",
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "01936c1a-7e9b-7b1e-8c55-0123456789ab",
        "ce-source": "/pgpubsub/shop",
        "ce-type": "blog.PostReads",
        "ce-time": "2026-01-31T10:00:00Z",
        "ce-partitionkey": "[%22Zo%C3%AB%22,%201]",
    }
