"""The publisher: who publishes, when, and what is seen while the broker takes nothing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import DataError, connections

from example.relay.servers import Nats
from pgpubsub_sql import notify, notify_many
from pgpubsub_sql.errors import BrokerUnavailable, NotReady
from pgpubsub_sql.management.lanes import select_lanes
from pgpubsub_sql.models import Notification, Position
from pgpubsub_sql.relay import outbox as outboxes
from pgpubsub_sql.relay import publisher, publishing
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.outbox import NEXT, Outbox
from pgpubsub_sql.relay.owner import this_database
from pgpubsub_sql.relay.publisher import PublishingWorker
from pgpubsub_sql.relay.publishing import CLOSED
from pgpubsub_sql.relay.receiver import Receiver
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import configuration, streams_of
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import sleeping
from pgpubsub_sql.worker import worker as workers
from pgpubsub_sql.worker.shutdown import Shutdown
from tests.app.channels import Job, Step
from tests.conftest import eventually
from tests.ledger import backends, sql
from tests.management.support import run, run_json
from tests.relay.registration import make_ours, registered
from tests.relay.test_publishing import held

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _relayed(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Job, "relay", True)
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 1.0)
    sql("TRUNCATE pgpubsub_sql_counter")  # no flush empties it
    with registered("app.Job"):
        yield
    sql("TRUNCATE pgpubsub_sql_counter")


@pytest.fixture
def stream(broker: Broker, stream: Stream) -> Stream:
    """Replace the fixture: it is this database that publishes."""
    make_ours(broker, stream)
    return stream


def waiting() -> Any:
    return Notification.objects.filter(subscription="relay")


@contextmanager
def publishes(settings: RelaySettings, using: str = "default") -> Iterator[PublishingWorker]:
    """Run a publisher of the database *using* in a thread, until the end of the block."""
    worker = PublishingWorker([Job], settings, using=using)

    def work() -> None:
        try:
            worker.run()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        eventually(lambda: worker.is_listening)
        yield worker
    finally:
        worker.shutdown.request()
        thread.join(30)
    assert not thread.is_alive()


def problems() -> str:
    return "\n".join(run_json("status")["problems"])


@pytest.fixture
def _unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look for safety comes in time: what is found was heard of."""
    for module in (workers, sleeping):
        monkeypatch.setattr(module, "POLL_SECONDS", 3600.0)


@pytest.mark.usefixtures("_unpolled")
def test_a_notify_wakes_it_and_workers_leave_its_messages_alone(
    relay: RelaySettings, broker: Broker, stream: Stream
) -> None:
    assert Lane("app.Job", "relay") not in select_lanes([Job], None, [])
    with publishes(relay) as worker:
        eventually(lambda: not worker._sleeper.is_awake)
        notify(Job(1))
        eventually(lambda: held(broker, stream) == [1])
    assert not waiting().exists()
    assert Notification.objects.filter(subscription="").count() == 1
    counted = "SELECT listener, handled FROM pgpubsub_sql_counter WHERE subscription = 'relay'"
    assert sql(counted) == [("pgpubsub_sql.listeners.publish", 1)]


@pytest.mark.usefixtures("_unpolled")
def test_a_pause_stops_it(relay: RelaySettings, broker: Broker, stream: Stream) -> None:
    run("pause", "app.Job", "--subscription", "relay")
    with publishes(relay):
        notify(Job(1))
        assert "app.Job (relay) has been paused" in run("status")
        run("resume", "app.Job", "--subscription", "relay")
        eventually(lambda: held(broker, stream) == [1])


def test_what_is_too_large_is_parked_and_said(
    relay: RelaySettings, broker: Broker, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    with publishes(relay):
        notify_many([Job(1, "x" * 1_048_576), Job(2)])
        eventually(lambda: held(broker, stream) == [2])
        eventually(lambda: "is too large for the broker" in caplog.text)
    assert [row.reason for row in waiting()] == ["TooLarge"]


def test_a_broker_that_is_down_is_seen_and_charges_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Down at the start, and down later; no transaction stays open meanwhile."""
    monkeypatch.setattr(publisher, "CONNECT_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(outboxes, "LOOK_SECONDS", 0.1)
    nats = Nats()
    settings = RelaySettings(servers=tuple(nats.urls), origin="shop", replicas=1)
    (stream,) = streams_of("shop", "app.Job", settings)
    assert "Nobody publishes app.Job. To start a relay" in problems()
    with publishes(settings):
        notify(Job(1))
        eventually(lambda: "The broker does not take what the relay publishes" in problems())
        assert "the broker takes nothing from 1 of them now" in run("status")
        assert "what the relay publishes" not in run("status", "app.Step")
        with nats, Broker(settings) as broker:
            eventually(lambda: "relay --setup" in caplog.text)
            make_ours(broker, stream)
            eventually(lambda: held(broker, stream) == [1], within=60)
            eventually(lambda: problems().count("relay") == 0)
            nats.kill()
            notify(Job(2))
            eventually(lambda: run_json("status")["relays_stuck"] == 1)
            assert "1 relay publishes from this database" in run("status")
            assert not sql(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND state = 'idle in transaction'"
            )
            found = waiting().values_list("attempts", "last_error", "failed_at", "alone")
            assert list(found) == [(0, "", None, False)]
            nats.start()
            with Broker(settings) as again:
                eventually(lambda: held(again, stream) == [1, 2], within=60)


def test_a_stream_that_is_full_is_seen_and_mends_itself(
    relay: RelaySettings, broker: Broker, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    full = configuration(stream, relay, this_database("default")) | {"max_msgs": 1}
    broker.run(broker.api(f"STREAM.UPDATE.{stream}", full))
    with publishes(relay):
        send_one_by_one(1, 2)
        eventually(lambda: run_json("status")["relays_stuck"] == 1)
        assert "maximum messages exceeded" in caplog.text
        with pytest.raises(CommandError, match="Something is wrong with"):
            run("relay", "--check")
        make_ours(broker, stream)
        eventually(lambda: held(broker, stream) == [1, 2], within=60)


def test_each_channel_is_stuck_by_itself(
    relay: RelaySettings, broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A success of another one hides nothing."""
    monkeypatch.setattr(Step, "relay", True)
    delivery = PublishingWorker([Job, Step], relay).delivery
    with registered("app.Step"), delivery:
        with pytest.raises(BrokerUnavailable, match=r"The streams of app\.Step do not exist"):
            delivery.handle_stored("app.Step", "relay")
        delivery.handle_stored("app.Job", "relay")
        assert delivery.is_stuck
        make_ours(broker, dataclasses.replace(stream, channel="app.Step"))
        delivery.handle_stored("app.Step", "relay")
        assert not delivery.is_stuck


def test_whatever_is_wrong_but_the_database_is_being_stuck(
    relay: RelaySettings, broker: Broker, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PublishingWorker([Job], dataclasses.replace(relay, tls_ca="/nowhere")).delivery as broken:
        with pytest.raises(NotReady, match="cannot be read"):
            broken.handle_stored("app.Job", "relay")
        assert broken.is_stuck
    with PublishingWorker([Job], relay).delivery as delivery:
        monkeypatch.setattr(Outbox, "publish_next", lambda outbox: sql("SELECT 1 / 0"))
        with pytest.raises(DataError):
            delivery.handle_stored("app.Job", "relay")
        assert not delivery.is_stuck


def send_one_by_one(*numbers: int) -> None:
    for number in numbers:
        notify(Job(number))


@pytest.fixture(autouse=True)
def _configured(relay: RelaySettings, settings: Any) -> None:
    settings.PGPUBSUB_RELAY = {
        "servers": list(relay.servers),
        "origin": relay.origin,
        "replicas": 1,
    }


def test_two_relays_publish_each_message_once(
    relay: RelaySettings, broker: Broker, stream: Stream
) -> None:
    with publishes(relay), publishes(relay):
        send_one_by_one(*range(30))
        eventually(lambda: not waiting().exists())
        eventually(lambda: len(backends("pgpubsub_sql relay")) == 2)
    assert held(broker, stream) == list(range(30))


def test_another_number_of_partitions_goes_on_in_order(
    relay: RelaySettings,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    """A receiver begins the new streams once it has the marks of all old ones."""
    monkeypatch.setattr(outboxes, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(Step, "relay", True)
    monkeypatch.setattr(Job, "relay", False)

    def send(first: int) -> None:
        notify_many(Step(f"a{n % 7}", n) for n in range(first, first + 40))

    def published(partitions: int) -> Outbox:
        broker.settings = dataclasses.replace(relay, partitions=partitions)
        settings.PGPUBSUB_RELAY["partitions"] = partitions
        return Outbox(broker, Step, using="default")

    with registered("app.Step"):
        old = published(2)
        done = run_json("relay", "--setup")
        assert [row["done"] for row in done] == ["made"] * 2
        send(0)
        assert old.publish_next().published == 40
        new = published(3)
        assert "+2+" in run_json("relay", "--setup")[0]["stream"]
        assert len(run_json("relay", "--setup")) == 3
        send(40)
        for step in ("close_outbox_stream", "delete_from_outbox"):  # with marks, and after them
            dies(new, at=step)
        published(2)
        assert old.publish_next().published == 40  # it learns of the new ones from the database
        Position.objects.filter(stream__contains="+2+").delete()  # as by a restore
        send(80)
        with pytest.raises(BrokerUnavailable, match=r"3 streams of generation 2 .* but 2 is the"):
            old.publish_next()
        published(3)
        assert new.publish_next().published == 40
        send(120)
        assert Outbox(broker, Step, using="default").publish_next().published == 40
    assert dict(Position.objects.values_list("stream", "message_id")) == {
        one.name: CLOSED if number == 1 else None
        for partitions, number in ((2, 1), (3, 2))
        for one in generation(relay, partitions, number)
    }
    rows = received(relay, 160)
    for account in {row["account"] for row in rows}:
        numbers = [row["number"] for row in rows if row["account"] == account]
        assert numbers == sorted(numbers)
    assert len(rows) == 160


def dies(outbox: Outbox, *, at: str) -> None:
    """Let a relay die that has sent something, before it executes the statement *at*."""

    def execute(name: str, *arguments: Any) -> list[Any]:
        if name == at:
            raise SystemExit
        return Outbox._execute(outbox, name, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "_execute", execute)
        with pytest.raises(SystemExit):
            outbox.publish_next()


def generation(relay: RelaySettings, partitions: int, number: int) -> list[Stream]:
    split = dataclasses.replace(relay, partitions=partitions)
    return streams_of(relay.origin or "", "app.Step", split, number)


def received(relay: RelaySettings, count: int) -> list[dict[str, Any]]:
    """Return what another database has received, in order."""
    given = dataclasses.replace(relay, origin=None, sources=(relay.origin or "",))
    stored = Notification.objects.using("other").order_by("id")
    with Shutdown() as shutdown:
        thread = threading.Thread(
            target=Receiver([Step], given, using="other", shutdown=shutdown).run
        )
        thread.start()
        try:
            eventually(lambda: stored.count() >= count)
        finally:
            shutdown.request()
            thread.join(30)
    return list(stored.values_list("payload", flat=True))


def test_a_message_that_is_not_due_holds_up_its_key(
    relay: RelaySettings, broker: Broker, stream: Stream
) -> None:
    """As it does for listeners; other keys go on."""
    make_ours(broker, dataclasses.replace(stream, channel="app.Step"))
    with registered("app.Step"):
        notify_many([Step("a", 1), Step("b", 1), Step("a", 2)])
        first = waiting().order_by("id")[0]
        sql(
            "UPDATE pgpubsub_sql_notification SET available_at = now() + interval '1 h'"
            " WHERE id = %s",
            first.id,
        )
        assert Outbox(broker, Step, using="default").publish_next().published == 1
        left = [row.payload["number"] for row in waiting().order_by("id")]
        assert left == [1, 2]


def test_the_outbox_is_read_by_its_index() -> None:
    """Also without statistics, as after a bulk load: no sort of all that waits."""
    sql("TRUNCATE pgpubsub_sql_notification")
    sql("VACUUM ANALYZE pgpubsub_sql_notification")
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, subscription, payload)"
        " SELECT 'app.Job', 'relay', '{}' FROM generate_series(1, 5000)"
    )
    text = NEXT % {"channel": "'app.Job'", "limit": 1000, "bytes": 1000}
    plan = "\n".join(row for (row,) in sql(f"EXPLAIN {text}"))
    assert "Index Scan using pgpubsub_sql_outbox" in plan


def test_workers_refuse_its_subscription() -> None:
    with pytest.raises(CommandError, match=r"'relay'\. The relay publishes it: listen --relay"):
        select_lanes([Job], ["relay"], [])
