"""The outbox: what is stored is published in order, and deleted once the broker has it."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connections, transaction
from django.utils import timezone

from example.relay.servers import Nats
from pgpubsub_sql import notify, notify_many
from pgpubsub_sql.errors import BrokerUnavailable
from pgpubsub_sql.models import Notification
from pgpubsub_sql.relay import outbox as outboxes
from pgpubsub_sql.relay import publishing
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.outbox import Outbox, OutboxRow, message_id
from pgpubsub_sql.relay.publishing import publish
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import existing, streams_of
from tests.app.channels import Job, Step
from tests.conftest import eventually
from tests.ledger import sql
from tests.relay.registration import make_ours, registered
from tests.relay.test_publishing import held

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registered(transactional_db: None) -> Iterator[None]:
    """Messages of both channels are stored for the relay, beside their listeners here."""
    with registered("app.Job"), registered("app.Step"):
        yield


def waiting() -> Any:
    """Return the messages that are still to be published."""
    return Notification.objects.filter(subscription="relay").order_by("id")


@pytest.fixture
def stream(broker: Broker, stream: Stream) -> Stream:
    """Replace the fixture: it is this database that publishes."""
    make_ours(broker, stream)
    return stream


@pytest.fixture
def outbox(broker: Broker, stream: Stream) -> Outbox:
    return Outbox(broker, Job, using="default")


def send(*numbers: int) -> None:
    notify_many(Job(number) for number in numbers)


def counts(outbox: Outbox) -> tuple[int, int, int]:
    found = outbox.publish_next()
    found.check()
    return found.published, len(found.parked), found.expired


def test_messages_are_published_in_order_and_deleted(
    outbox: Outbox, broker: Broker, stream: Stream
) -> None:
    send(*range(5))
    assert counts(outbox) == (5, 0, 0)
    assert not outbox.publish_next()
    assert held(broker, stream) == list(range(5))
    assert not waiting().exists()
    assert Notification.objects.filter(subscription="").count() == 5  # for listeners here


def test_what_is_published_is_kept_if_its_channel_says_so(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "keep", datetime.timedelta(days=1))
    send(1)
    notify(Job(2), expires=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    Outbox(broker, Job, using="default").publish_next()
    kept = (
        "SELECT payload ->> 'number', outcome, subscription FROM pgpubsub_sql_handled ORDER BY id"
    )
    assert sql(kept) == [("1", "handled", "relay"), ("2", "expired", "relay")]


def test_what_expires_once_it_is_published_is_kept_as_published(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "keep", datetime.timedelta(days=1))
    notify(Job(1), expires=timezone.now() + datetime.timedelta(hours=1))
    delete = Outbox._delete

    def expire(self: Outbox, ids: list[int], expired: list[int]) -> None:
        sql("UPDATE pgpubsub_sql_notification SET expires_at = now() WHERE id = ANY (%s)", ids)
        delete(self, ids, expired)

    monkeypatch.setattr(Outbox, "_delete", expire)
    assert Outbox(broker, Job, using="default").publish_next().published == 1
    assert sql("SELECT outcome FROM pgpubsub_sql_handled") == [("handled",)]


def test_a_message_that_is_not_due_stays(outbox: Outbox) -> None:
    notify(Job(1), delay=datetime.timedelta(hours=1))
    assert not outbox.publish_next()
    assert waiting().count() == 1


def test_an_expired_message_is_deleted_unpublished(
    outbox: Outbox, info: Callable[[Stream], dict[str, Any]], stream: Stream
) -> None:
    notify(Job(1), expires=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    assert counts(outbox) == (0, 0, 1)
    assert info(stream)["state"]["messages"] == 0
    assert not waiting().exists()


def test_a_commit_that_fails_doubles_nothing(
    outbox: Outbox, broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay dies after the acknowledgement: the same is sent again, under the same ids."""
    send(0, 1, 2)
    with monkeypatch.context() as patch:
        execute = Outbox._execute

        def die(self: Outbox, name: str, values: dict[str, Any], text: str = "") -> list[Any]:
            if name == "delete_from_outbox":
                raise SystemExit
            return execute(self, name, values, text)

        patch.setattr(Outbox, "_execute", die)
        with pytest.raises(SystemExit):
            outbox.publish_next()
    assert waiting().count() == 3
    send(3)
    assert counts(outbox) == (4, 0, 0)
    assert held(broker, stream) == [0, 1, 2, 3]


def test_a_message_that_is_too_large_is_parked_and_stops_nothing(
    outbox: Outbox, broker: Broker, stream: Stream
) -> None:
    notify_many([Job(0), Job(1, "x" * 1_048_576), Job(2)])
    assert counts(outbox) == (2, 1, 0)
    assert held(broker, stream) == [0, 2]
    (parked,) = waiting()
    assert (parked.payload["number"], parked.available_at, parked.reason) == (1, None, "TooLarge")
    assert "raise max_payload in the configuration of its servers" in parked.last_error


def test_a_broker_that_is_down_charges_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 1.0)
    with Nats() as nats:
        settings = RelaySettings(servers=tuple(nats.urls), origin="shop", replicas=1)
        with Broker(settings) as broker:
            stream = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
            make_ours(broker, stream)
            outbox = Outbox(broker, Job, using="default")
            send(0, 1)
            nats.kill()
            with pytest.raises(BrokerUnavailable):
                outbox.publish_next().check()
    found = waiting().values_list("attempts", "last_error", "failed_at")
    assert list(found) == [(0, "", None)] * 2


def test_one_stream_that_fails_does_not_keep_another_from_going_on(
    broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 1.0)
    broker.settings = dataclasses.replace(broker.settings, partitions=2)
    second = dataclasses.replace(stream, partition=1)
    make_ours(broker, second)
    outbox = Outbox(broker, Job, using="default")
    outbox.publish_next()
    broker.run(broker.api(f"STREAM.DELETE.{second}"))
    send(*range(20))
    with pytest.raises(BrokerUnavailable, match="the stream does not exist"):
        outbox.publish_next().check()
    left = [row.payload["number"] for row in waiting()]
    assert 0 < len(left) < 20
    assert sorted(held(broker, stream) + left) == list(range(20))


def led_by(broker: Broker, stream: Stream) -> int:
    """Return the number of the server that leads *stream*."""
    return int(broker.run(broker.api(f"STREAM.INFO.{stream}"))["cluster"]["leader"][1:])


def streams_are_listed(broker: Broker) -> bool:
    """Whether the cluster has a leader, and this program is connected to it."""
    try:
        return bool(broker.run(existing(broker, "shop", "app.Job")))
    except BrokerUnavailable:
        return False


@pytest.mark.parametrize("is_new", [False, True], ids=["verified", "never verified"])
def test_one_stream_without_a_leader_does_not_keep_another_from_going_on(
    monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    """The relay asks whose the streams are, and one of them does not answer."""
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 3.0)
    monkeypatch.setattr(outboxes, "LOOK_SECONDS", 0.0)
    with Nats(3) as nats:
        settings = RelaySettings(servers=tuple(nats.urls), origin="shop", replicas=1, partitions=2)
        first, second = streams_of("shop", "app.Job", settings)
        with Broker(settings) as broker:
            make_ours(broker, first)
            make_ours(broker, second)
            outbox = Outbox(broker, Job, using="default")
            send(-1)
            assert counts(outbox) == (1, 0, 0)
            assert led_by(broker, first) != led_by(broker, second)
            nats.nodes[led_by(broker, second)].kill()
            eventually(lambda: streams_are_listed(broker))
            monkeypatch.setattr(broker, "request", partial(broker.request, timeout=2.0))
            if is_new:
                outbox = Outbox(broker, Job, using="default")
            send(*range(20))
            with pytest.raises(BrokerUnavailable):
                outbox.publish_next().check()
            left = [row.payload["number"] for row in waiting()]
            assert 0 < len(left) < 20
            taken = [number for number in held(broker, first) if number >= 0]
            assert sorted(taken + left) == list(range(20))


class Clock:
    """A clock that goes on when it is told to."""

    now = 1.0

    def monotonic(self) -> float:
        return self.now


def test_one_transaction_publishes_for_a_while_and_keeps_what_was_taken(
    outbox: Outbox, broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay has died, so all is sent again one by one; each takes four seconds."""
    send(*range(5))
    broker.run(publish(broker, stream, [outbox._outgoing(first_row(outbox))]))
    clock, request = Clock(), broker.request

    async def slow(*arguments: Any, **options: Any) -> dict[str, Any]:
        clock.now += 4
        return await request(*arguments, **options)

    outbox._look()
    monkeypatch.setattr(publishing, "time", clock)
    monkeypatch.setattr(broker, "request", slow)
    found = outbox.publish_next()
    assert found.published == 2
    with pytest.raises(BrokerUnavailable, match="has not taken all within 10 s"):
        found.check()
    assert [row.payload["number"] for row in waiting()] == [2, 3, 4]
    assert counts(outbox) == (3, 0, 0)
    assert held(broker, stream) == list(range(5))


def first_row(outbox: Outbox) -> OutboxRow:
    with transaction.atomic():
        values = {"channel": "app.Job", "limit": 1, "bytes": 1}
        return OutboxRow(*outbox._execute("next_in_outbox", values, outboxes.NEXT)[0])


def test_what_is_compressed_counts_for_more(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that one transaction sends is in memory, as it was before it was stored."""
    monkeypatch.setattr(outboxes, "BATCH_BYTES", 20_000)
    notify_many(Job(number, "x" * 100_000) for number in range(2))
    assert counts(outbox) == (1, 0, 0)
    assert counts(outbox) == (1, 0, 0)


def test_without_its_streams_it_says_what_to_run(broker: Broker, stream: Stream) -> None:
    broker.settings = dataclasses.replace(broker.settings, partitions=2)
    send(1)
    with pytest.raises(BrokerUnavailable, match=r"or not as many as .*relay --setup"):
        Outbox(broker, Job, using="default").publish_next()


def test_equal_keys_share_a_stream(broker: Broker, stream: Stream) -> None:
    broker.settings = dataclasses.replace(broker.settings, partitions=2)
    streams = [
        dataclasses.replace(stream, channel="app.Step", partition=partition) for partition in (0, 1)
    ]
    for one in streams:
        make_ours(broker, one)
    notify_many(Step(account=name, number=number) for number in range(9) for name in "abcdef")
    assert Outbox(broker, Step, using="default").publish_next().published == 54
    found = [held(broker, one) for one in streams]
    assert sorted(map(len, found)) != [0, 54]
    assert all(numbers == sorted(numbers) for numbers in found)


def test_a_paused_channel_is_not_published(outbox: Outbox) -> None:
    send(1)
    pause = "UPDATE pgpubsub_sql_subscription SET paused_at = {} WHERE name = 'relay'"
    sql(pause.format("clock_timestamp()"))
    assert not outbox.publish_next()
    sql(pause.format("NULL"))
    assert counts(outbox) == (1, 0, 0)


def test_only_one_publishes_a_channel_at_a_time(outbox: Outbox, broker: Broker) -> None:
    send(0, 1)
    results: list[bool] = []

    def run() -> None:
        results.append(bool(outbox.publish_next()))
        connections.close_all()

    with transaction.atomic():
        assert outbox._execute("lock_outbox", {"channel": "app.Job"}) == [(True,)]
        other = threading.Thread(target=run)
        other.start()
        other.join(20)
    assert results == [False]
    assert waiting().count() == 2


def test_an_id_is_the_same_each_time_and_has_the_time() -> None:
    at = 1_769_853_600_123_456
    row = OutboxRow(
        id=9, number=7, payload="{}", key=None, stored_at=at, has_expired=False, schema="public"
    )
    found = message_id("shop", row)
    assert found == message_id("shop", row._replace(id=10, payload='{"a": 1}', key="b"))
    parsed = uuid.UUID(found)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(parsed.bytes[:6], "big") == 1_769_853_600_123
    others = [
        message_id("crm", row),
        message_id("shop", row._replace(number=8)),
        message_id("shop", row._replace(schema="tenant")),
        message_id("shop", row._replace(stored_at=at + 1)),
    ]
    assert len({found, *others}) == 5


@pytest.mark.parametrize("is_used", [True, False])
def test_times_do_not_depend_on_the_settings(
    outbox: Outbox, broker: Broker, stream: Stream, settings: Any, is_used: bool
) -> None:
    """Without USE_TZ, Django's times are those of a place, and have no zone."""
    settings.USE_TZ, settings.TIME_ZONE = is_used, "Asia/Tokyo"
    notify(Job(1))
    ((stored, milliseconds),) = sql(
        "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),"
        " floor(extract(epoch FROM created_at) * 1000)::bigint"
        " FROM pgpubsub_sql_notification WHERE subscription = 'relay'"
    )
    assert counts(outbox) == (1, 0, 0)
    found = broker.run(broker.api(f"STREAM.MSG.GET.{stream}", {"seq": 1}))["message"]
    headers = base64.b64decode(found["hdrs"]).decode()
    given = dict(line.split(": ", 1) for line in headers.split("\r\n")[1:] if line)
    told = datetime.datetime.fromisoformat(given["ce-time"])
    assert told.utcoffset() == datetime.timedelta()
    assert told.replace(tzinfo=None) == datetime.datetime.fromisoformat(stored)
    assert int.from_bytes(uuid.UUID(given["Nats-Msg-Id"]).bytes[:6], "big") == milliseconds


def test_a_payload_arrives_as_it_was_stored(outbox: Outbox, broker: Broker, stream: Stream) -> None:
    notify(Job(1, "Zoë 🐘"))
    outbox.publish_next()
    got = broker.run(broker.api(f"STREAM.MSG.GET.{stream}", {"seq": 1}))["message"]["data"]
    assert json.loads(base64.b64decode(got)) == {"number": 1, "mood": "Zoë 🐘"}
