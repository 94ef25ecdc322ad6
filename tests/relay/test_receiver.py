"""Receiving: what a stream holds is stored here, in order and once, whatever happens between."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from example.relay.servers import Nats
from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import BrokerUnavailable
from pgpubsub_sql.models import Inbox, Notification, Position
from pgpubsub_sql.relay import consumer, receiver
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.publishing import Outgoing, batches, outgoing, publish
from pgpubsub_sql.relay.receiver import Beside, Receiver
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import make
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.doorbell import Notify
from pgpubsub_sql.worker.shutdown import Shutdown
from tests.app.channels import ItemChannel, Job, Step
from tests.conftest import eventually
from tests.ledger import sql
from tests.registries import Ear
from tests.relay.test_publishing import AT, message

Start = Callable[..., Receiver]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for streams often, and notice silence soon."""
    monkeypatch.setattr(receiver, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(consumer, "HEARTBEAT_SECONDS", 0.5)


@pytest.fixture
def start(transactional_db: None, relay: RelaySettings) -> Iterator[Start]:
    """Start a receiver of the shared server's messages in a thread, which is stopped at the end."""
    stops: list[Callable[[], None]] = []

    def start(
        *channels: type[BaseChannel], settings: RelaySettings = relay, origin: str | None = None
    ) -> Receiver:
        shutdown = Shutdown()
        sources = (origin or settings.origin or "",)
        one = Receiver(
            channels or (Job,),
            dataclasses.replace(settings, sources=sources, origin=None),
            shutdown=shutdown,
        )

        def run() -> None:
            with shutdown:
                one.run()
            connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()

        def stop() -> None:
            shutdown.request()
            thread.join(20)
            assert not thread.is_alive()

        one.stop = stop  # type: ignore[attr-defined]
        stops.append(stop)
        return one

    yield start
    for stop in stops:
        stop()


def fill(broker: Broker, stream: Stream, *messages: Outgoing) -> None:
    for batch in batches(messages):
        broker.run(publish(broker, stream, batch), 30)


def jobs(*numbers: int) -> list[Outgoing]:
    return [message(number) for number in numbers]


def sent(payload: str) -> Outgoing:
    return outgoing(origin="x", channel="x", message_id="1", payload=payload, created_at=AT)


def stored() -> list[int]:
    """Return the numbers of the stored jobs, in order."""
    return [row.payload.get("number", -1) for row in Notification.objects.order_by("id")]


def has_stored(*numbers: int) -> Callable[[], bool]:
    return lambda: stored() == list(numbers)


def problem() -> str:
    found = Position.objects.values_list("problem", flat=True).first()
    return found or ""


def test_what_was_published_before_and_after_is_stored_in_order(
    broker: Broker, stream: Stream, start: Start
) -> None:
    fill(broker, stream, *jobs(*range(1200)))
    start()
    eventually(has_stored(*range(1200)))
    fill(broker, stream, *jobs(1200, 1201))
    eventually(has_stored(*range(1202)))
    (position,) = Position.objects.all()
    assert (position.stream, position.sequence, position.message_id) == (
        stream.name,
        1202,
        "id-1201",
    )


def test_workers_are_woken(broker: Broker, stream: Stream, start: Start) -> None:
    """The workers of this database hear of it as if it had been sent here."""
    with Ear("app.Job") as ear:
        start()
        fill(broker, stream, *jobs(7))
        eventually(has_stored(7))
        assert ear.notifies() == [Notify("app.Job", "")]


def test_another_process_goes_on_where_one_has_stopped(
    broker: Broker, stream: Stream, start: Start
) -> None:
    fill(broker, stream, *jobs(0, 1))
    one: Any = start()
    eventually(has_stored(0, 1))
    one.stop()
    fill(broker, stream, *jobs(2, 3))
    start()
    eventually(has_stored(0, 1, 2, 3))


def test_two_receivers_store_everything_once(broker: Broker, stream: Stream, start: Start) -> None:
    receivers: list[Any] = [start(), start()]
    for number in range(0, 40, 4):
        fill(broker, stream, *jobs(*range(number, number + 4)))
    eventually(has_stored(*range(40)))
    # One holds the lock. When it stops, the other goes on.
    (active,) = [one for one in receivers if one.received]
    active.stop()
    fill(broker, stream, *jobs(40))
    eventually(has_stored(*range(41)))


def test_a_stream_that_another_session_has_is_told_once(
    broker: Broker,
    stream: Stream,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    execute, tried = Receiver._execute, []

    def count(self: Receiver, name: str, values: dict[str, Any]) -> list[Any]:
        if name == "lock_stream":
            tried.append(values)
        return execute(self, name, values)

    monkeypatch.setattr(Receiver, "_execute", count)
    fill(broker, stream, *jobs(0))
    sql(query("lock_stream") % {"stream": f"'{stream}'"})
    with caplog.at_level(logging.INFO, "pgpubsub_sql.relay"):
        start()
        eventually(lambda: len(tried) > 2)
        sql(query("unlock_stream") % {"stream": f"'{stream}'"})
        eventually(has_stored(0))
    assert caplog.text.count("Another session reads the stream") == 1


def test_without_the_lock_the_position_decides(
    broker: Broker, stream: Stream, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction pooler gives the lock to nobody, or to everybody.

    The messages have no ids, so that the inbox hides nothing.
    """
    execute = Receiver._execute

    def lend(self: Receiver, name: str, values: dict[str, Any]) -> list[Any]:
        return [(True,)] if name == "lock_stream" else execute(self, name, values)

    monkeypatch.setattr(Receiver, "_execute", lend)
    start(), start()
    for number in range(60):
        broker.run(broker.request(stream.subject, b'{"number": %d}' % number))
    eventually(lambda: stored()[-1:] == [59])
    assert stored() == list(range(60))


def test_what_the_broker_has_twice_is_stored_once(
    broker: Broker, stream: Stream, start: Start
) -> None:
    """Beyond the broker's own window of two minutes, the inbox knows it."""
    start()
    fill(broker, stream, *jobs(0, 1))
    eventually(has_stored(0, 1))
    again = dataclasses.replace(stream, partition=1)  # whose window knows nothing
    broker.run(make(broker, again))
    fill(broker, again, *jobs(0, 1, 2))
    eventually(has_stored(0, 1, 2))


def test_a_message_without_an_id_is_stored(broker: Broker, stream: Stream, start: Start) -> None:
    for _ in range(2):
        broker.run(broker.request(stream.subject, b'{"number": 5, "mood": "good"}'))
    start()
    eventually(has_stored(5, 5))
    assert not Inbox.objects.exists()


def test_the_ordering_key_is_that_of_this_projects_channel(
    broker: Broker, stream: Stream, start: Start
) -> None:
    steps = dataclasses.replace(stream, channel="app.Step")
    broker.run(make(broker, steps))
    payload = '{"account": "a", "number": 1}'
    fill(broker, steps, sent(payload))
    start(Step)
    eventually(Notification.objects.exists)
    assert list(Notification.objects.values_list("channel", "key")) == [("app.Step", '["a"]')]


def test_rows_are_stored_as_a_trigger_would_store_them(
    broker: Broker, stream: Stream, start: Start
) -> None:
    items = dataclasses.replace(stream, channel="app.ItemChannel")
    broker.run(make(broker, items))
    payload = '{"op": "INSERT", "when": "AFTER", "old": null, "new": {"id": 1}, "context": {}}'
    fill(broker, items, sent(payload))
    start(ItemChannel)
    eventually(Notification.objects.exists)
    assert Notification.objects.get().payload["new"] == {"id": 1}


POISON = [b"", b"[1]", b'{"number": 1', rb'{"a": "\u0000"}', b'{"a": "\xff"}', b"{\0}"]
POISON.append(b'{"a": %s}' % (b"[" * 50_000 + b"]" * 50_000))


def test_what_is_no_json_object_is_kept_as_text_and_stops_nothing(
    broker: Broker, stream: Stream, start: Start
) -> None:
    """The worker that claims it parks it, as it does what NOTIFY brings."""
    fill(broker, stream, *jobs(0))
    for number, poison in enumerate(POISON):
        broker.run(broker.request(stream.subject, poison, {"Nats-Msg-Id": f"poison {number}"}))
    fill(broker, stream, *jobs(1))
    start()
    eventually(has_stored(0, *(-1 for _ in POISON), 1))
    _, *kept, _ = Notification.objects.order_by("id")
    assert [list(one.payload) for one in kept] == [["$raw"] for _ in POISON]


def test_a_stream_without_a_leader_keeps_no_other_from_going_on(
    broker: Broker, stream: Stream, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, lost = Receiver._reader, dataclasses.replace(stream, partition=1)
    broker.run(make(broker, lost))
    tries = iter(range(2))

    def lose(self: Receiver, broker: Broker, one: Stream) -> receiver.Reader:
        if one == lost and next(tries, None) is not None:
            raise BrokerUnavailable("no leader")
        return reader(self, broker, one)

    monkeypatch.setattr(Receiver, "_reader", lose)
    fill(broker, stream, *jobs(0))
    fill(broker, lost, *jobs(1))
    start()
    eventually(has_stored(0, 1))


def test_nothing_is_kept_of_a_transaction_that_fails(
    broker: Broker, stream: Stream, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The position, the inbox and the messages go together."""
    start()
    fill(broker, stream, *jobs(0))
    eventually(has_stored(0))
    table = "ALTER TABLE pgpubsub_sql_notification"
    sql(f"{table} ADD CONSTRAINT tests CHECK (payload->>'number' <> '2')")
    try:
        fill(broker, stream, *jobs(1, 2, 3))
        eventually(lambda: "Cannot receive" in caplog.text)
        assert (stored(), Position.objects.get().sequence, Inbox.objects.count()) == ([0], 1, 1)
    finally:
        sql(f"{table} DROP CONSTRAINT tests")
    eventually(has_stored(0, 1, 2, 3))


def test_a_session_that_is_killed_costs_nothing(
    broker: Broker, stream: Stream, start: Start
) -> None:
    start()
    for number in range(0, 50, 5):
        fill(broker, stream, *jobs(*range(number, number + 5)))
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    eventually(has_stored(*range(50)))


def test_a_session_that_is_killed_while_a_stream_is_begun_costs_nothing(
    broker: Broker, stream: Stream, start: Start
) -> None:
    """It is just about to forget why the stream was not read."""
    one: Any = start()
    eventually(Position.objects.exists)
    one.stop()
    sql("UPDATE pgpubsub_sql_position SET problem = 'is solved'")
    sql("CREATE SEQUENCE deaths")
    sql(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('deaths') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
        " RETURN NEW; END $$"
    )
    sql(
        "CREATE TRIGGER die BEFORE UPDATE OF problem ON pgpubsub_sql_position"
        " FOR EACH ROW EXECUTE FUNCTION die()"
    )
    try:
        fill(broker, stream, *jobs(0))
        start()
        eventually(has_stored(0))
        assert sql("SELECT last_value > 1 FROM deaths") == [(True,)]
    finally:
        sql("DROP FUNCTION die() CASCADE")
        sql("DROP SEQUENCE deaths")


def test_a_consumer_that_is_deleted_is_replaced(
    broker: Broker, stream: Stream, start: Start
) -> None:
    start()
    for number in range(3):
        fill(broker, stream, *jobs(number))
        eventually(has_stored(*range(number + 1)))
        for name in consumers(broker, stream):
            broker.run(broker.api(f"CONSUMER.DELETE.{stream}.{name}"))


def test_a_consumer_that_only_ends_is_no_hole(
    broker: Broker, stream: Stream, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """As at a change of the leader, or in silence: no message was left out."""
    fill(broker, stream, *jobs(0))
    start()
    eventually(has_stored(0))
    for _ in range(receiver.HOLES + 2):
        eventually(lambda: bool(consumers(broker, stream)))
        for name in consumers(broker, stream):
            broker.run(broker.api(f"CONSUMER.DELETE.{stream}.{name}"))
    fill(broker, stream, *jobs(1))
    eventually(has_stored(0, 1))
    assert "Not receiving" not in caplog.text


def consumers(broker: Broker, stream: Stream) -> list[str]:
    return broker.run(broker.api(f"CONSUMER.NAMES.{stream}"))["consumers"] or []


@pytest.mark.parametrize("numbers", [(), (0,)])
def test_a_problem_is_forgotten_once_the_stream_is_read(
    broker: Broker, stream: Stream, start: Start, numbers: tuple[int, ...]
) -> None:
    """Even if nothing new comes."""
    fill(broker, stream, *jobs(*numbers))
    one: Any = start()
    eventually(lambda: stored() == list(numbers) and Position.objects.exists())
    one.stop()
    Position.objects.update(problem="A permission is missing.")
    start()
    eventually(lambda: problem() == "")


def test_the_inbox_forgets_what_the_broker_has_forgotten(
    broker: Broker, stream: Stream, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "SWEEP_SECONDS", 0.1)
    fill(broker, stream, *jobs(0, 1))
    start()
    eventually(has_stored(0, 1))
    sql(
        "UPDATE pgpubsub_sql_inbox SET arrived_at = clock_timestamp() - interval '9 days'"
        " WHERE id = (SELECT min(id::text)::uuid FROM pgpubsub_sql_inbox)"
    )
    eventually(lambda: Inbox.objects.count() == 1)


def test_a_sweep_of_the_inbox_that_is_not_done_goes_on_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More may arrive in a minute than one sweep deletes."""
    monkeypatch.setattr(receiver, "SWEPT", 2)
    monkeypatch.setattr(receiver, "SWEEP_SECONDS", 3600.0)
    sql(
        "INSERT INTO pgpubsub_sql_inbox (id, arrived_at)"
        " SELECT gen_random_uuid(), clock_timestamp() - interval '9 days'"
        " FROM generate_series(1, 5)"
    )
    start()
    eventually(lambda: not Inbox.objects.exists())


def test_a_source_without_a_stream_is_told_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        start(origin="nobody")
        eventually(lambda: "There is no stream for pgpubsub.nobody.app=2EJob" in caplog.text)


# --- A server of the test's own


@pytest.fixture
def own() -> Iterator[Nats]:
    with Nats() as nats:
        yield nats


@pytest.fixture
def own_settings(own: Nats) -> RelaySettings:
    return RelaySettings(servers=tuple(own.urls), origin="shop", replicas=1)


@pytest.fixture
def own_broker(own_settings: RelaySettings) -> Iterator[Broker]:
    with Broker(own_settings) as broker:
        yield broker


@pytest.fixture
def own_stream(own_broker: Broker) -> Stream:
    stream = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
    own_broker.run(make(own_broker, stream))
    return stream


def again(broker: Broker) -> None:
    """Wait until the connection is back."""
    eventually(lambda: broker._client is not None and broker._client.is_connected)


def test_a_broker_that_is_down_is_waited_for(
    own: Nats, own_settings: RelaySettings, own_broker: Broker, own_stream: Stream, start: Start
) -> None:
    """At the start, and later."""
    fill(own_broker, own_stream, *jobs(0))
    own.kill()
    start(settings=own_settings)
    own.start()
    eventually(has_stored(0))
    own.kill()
    own.start()
    again(own_broker)
    fill(own_broker, own_stream, *jobs(1))
    eventually(has_stored(0, 1))


def test_a_stream_that_was_made_anew_stops_until_it_is_accepted(
    own_settings: RelaySettings, own_broker: Broker, own_stream: Stream, start: Start
) -> None:
    fill(own_broker, own_stream, *jobs(0, 1))
    one: Any = start(settings=own_settings)
    eventually(has_stored(0, 1))
    own_broker.run(own_broker.api(f"STREAM.DELETE.{own_stream}"))
    eventually(lambda: "is gone, with all that it still held" in problem())
    own_broker.run(make(own_broker, own_stream))
    fill(own_broker, own_stream, *jobs(2))
    eventually(lambda: "was made anew" in problem())
    assert stored() == [0, 1]
    one.stop()


def test_a_store_that_was_put_back_is_noticed_by_the_id(
    own: Nats, own_settings: RelaySettings, own_broker: Broker, own_stream: Stream, start: Start
) -> None:
    """The broker was restored from yesterday's disk, and has taken other messages since."""
    (node,) = own.nodes
    fill(own_broker, own_stream, *jobs(0, 1))
    node.kill(signal.SIGTERM)
    shutil.copytree(node.store, own.folder / "yesterday")
    own.start()
    again(own_broker)
    fill(own_broker, own_stream, *jobs(2, 3))
    one: Any = start(settings=own_settings)
    eventually(has_stored(0, 1, 2, 3))
    one.stop()
    node.kill(signal.SIGTERM)
    shutil.rmtree(node.store)
    (own.folder / "yesterday").rename(node.store)
    own.start()
    again(own_broker)
    fill(own_broker, own_stream, *jobs(4))
    start(settings=own_settings)
    eventually(lambda: "ends at 3, but 4 was received" in problem())
    fill(own_broker, own_stream, *jobs(5, 6))
    eventually(lambda: "has the message id-5 at 4, where id-3 was received" in problem())
    assert stored() == [0, 1, 2, 3]


def test_a_message_that_was_deleted_is_noticed(
    own: Nats, own_settings: RelaySettings, own_broker: Broker, start: Start
) -> None:
    stream = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
    config = {"name": stream.name, "subjects": [stream.subject], "allow_atomic": True}
    own_broker.run(own_broker.api(f"STREAM.CREATE.{stream}", config))
    fill(own_broker, stream, *jobs(0, 1, 2, 3))
    own_broker.run(own_broker.api(f"STREAM.MSG.DELETE.{stream}", {"seq": 3}))
    start(settings=own_settings)
    eventually(lambda: "lacks the message 3, though it has later ones" in problem())
    assert stored() == [0, 1]


def test_messages_that_expired_unread_are_noticed(
    own_settings: RelaySettings, own_broker: Broker, start: Start
) -> None:
    stream = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
    config = {"name": stream.name, "subjects": [stream.subject], "allow_atomic": True}
    own_broker.run(own_broker.api(f"STREAM.CREATE.{stream}", config))
    fill(own_broker, stream, *jobs(0))
    one: Any = start(settings=own_settings)
    eventually(has_stored(0))
    one.stop()
    fill(own_broker, stream, *jobs(1, 2, 3))
    own_broker.run(own_broker.api(f"STREAM.PURGE.{stream}", {"keep": 1}))
    start(settings=own_settings)
    eventually(lambda: "begins at 4, but only 1 was received" in problem())
    assert stored() == [0]


def test_what_ends_a_receiver_ends_what_runs_beside_it() -> None:
    class Broken(Receiver):
        def run(self) -> None:
            raise ZeroDivisionError

    ended = threading.Event()
    broken = Broken([], RelaySettings(servers=()), shutdown=Shutdown())
    with pytest.raises(ZeroDivisionError), Beside(lambda shutdown: broken, ended.set):
        assert ended.wait(20)
