"""After a stream was lost, what its sender keeps is published again under the same ids."""

from __future__ import annotations

import dataclasses
import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connections

from pgpubsub_sql import notify_many
from pgpubsub_sql.management.selection import duration
from pgpubsub_sql.models import Handled, Inbox, Notification
from pgpubsub_sql.relay import outbox as outboxes
from pgpubsub_sql.relay import receiver
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.outbox import Outbox
from pgpubsub_sql.relay.receiver import Receiver
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import existing
from pgpubsub_sql.sql.own_tables import PUBLISHED_AGAIN
from pgpubsub_sql.worker.shutdown import Shutdown
from tests.app.channels import Job
from tests.conftest import eventually
from tests.kept import keep
from tests.ledger import sql
from tests.management.support import run, run_json
from tests.relay.registration import registered
from tests.relay.test_publishing import held

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
REFILL = ("replay", "--handled", "app.Job", "--since", "1h", "--same-ids", "--noinput")


@pytest.fixture(autouse=True)
def _kept(
    transactional_db: None, relay: RelaySettings, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Jobs are published from here, and kept."""
    monkeypatch.setattr(Job, "relay", True)
    monkeypatch.setattr(Job, "keep", datetime.timedelta(days=1))
    monkeypatch.setattr(outboxes, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(receiver, "LOOK_SECONDS", 0.2)
    settings.PGPUBSUB_RELAY = {
        "servers": list(relay.servers),
        "origin": relay.origin,
        "replicas": 1,
    }
    sql("TRUNCATE pgpubsub_sql_history")
    with registered("app.Job"):
        yield
    sql("TRUNCATE pgpubsub_sql_history")


@contextmanager
def receives(relay: RelaySettings) -> Iterator[None]:
    """Receive in another database, until the end of the block."""
    given = dataclasses.replace(relay, origin=None, sources=(relay.origin or "",))
    with Shutdown() as shutdown:

        def work() -> None:
            Receiver([Job], given, using="other", shutdown=shutdown).run()
            connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            shutdown.request()
            thread.join(30)
    assert not thread.is_alive()


def arrived() -> list[int]:
    rows = Notification.objects.using("other").order_by("id")
    return [row.payload["number"] for row in rows]


def send(outbox: Outbox, *numbers: int) -> None:
    notify_many(Job(number) for number in numbers)
    assert outbox.publish_next().published == len(numbers)


def test_a_receiver_gets_what_a_lost_stream_had_and_doubles_nothing(
    relay: RelaySettings, broker: Broker, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stream,) = [row["stream"] for row in run_json("relay", "--setup")]
    outbox = Outbox(broker, Job, using="default")
    send(outbox, 0, 1, 2)
    with receives(relay):
        eventually(lambda: arrived() == [0, 1, 2])
    send(outbox, 3, 4)  # nobody has received these
    broker.run(broker.api(f"STREAM.DELETE.{stream}"))
    run("relay", "--setup")
    notify_many([Job(5)])

    assert "5 messages would be sent again" in run(*REFILL, "--dry-run")
    assert "5 messages were sent again" in run(*REFILL)
    assert Notification.objects.filter(subscription="").count() == 6  # no listener here sees them
    assert outbox.publish_next().published == 6
    settings.PGPUBSUB_RELAY = {"servers": list(relay.servers), "sources": [relay.origin]}
    monkeypatch.setattr(Job, "relay", False)
    monkeypatch.setattr(Job, "received_from", "nats")
    run("relay", "--accept", stream, "--database", "other")
    with receives(relay):
        eventually(lambda: arrived() == [0, 1, 2, 3, 4, 5])
    assert Inbox.objects.using("other").count() == 6


def test_the_broker_knows_them_too(relay: RelaySettings, broker: Broker) -> None:
    """Nothing was lost, and it is soon after: the stream stays as it is."""
    run("relay", "--setup")
    outbox = Outbox(broker, Job, using="default")
    send(outbox, 0, 1)
    assert Handled.objects.publish_again() == 2
    assert Handled.objects.publish_again() == 2  # the same twice in one batch
    assert outbox.publish_next().published == 4
    assert not Notification.objects.filter(subscription="relay").exists()
    streams = broker.run(existing(broker, relay.origin or "", "app.Job"))
    assert [held(broker, stream) for stream in streams] == [[0, 1]]


def test_what_was_published_again_counts_from_when_it_was_published_first(
    relay: RelaySettings, broker: Broker
) -> None:
    """Receivers may have forgotten its id, though it was handled here an hour ago."""
    run("relay", "--setup")
    outbox = Outbox(broker, Job, using="default")
    send(outbox, 0)
    assert Handled.objects.publish_again() == 1
    assert outbox.publish_next().published == 1
    assert Handled.objects.filter(subscription="relay").count() == 2
    assert "1 message would be sent again" in run(*REFILL, "--dry-run")
    sql(
        "UPDATE pgpubsub_sql_history SET handled_at = handled_at - interval '8 d'"
        " WHERE ids[1] = (SELECT min(id) FROM pgpubsub_sql_handled)"
    )
    assert "0 messages would be sent again" in run(*REFILL, "--dry-run")
    assert "0 messages were sent again" in run(*REFILL)
    assert not Notification.objects.filter(subscription="relay").exists()


@pytest.mark.parametrize("max_age", ["7d", "36h", "90m", "3700s"])
def test_all_of_what_receivers_remember_can_be_sent(settings: Any, max_age: str) -> None:
    """The bound that is named is one that is taken."""
    settings.PGPUBSUB_RELAY = settings.PGPUBSUB_RELAY | {"max_age": duration(max_age)}
    again = ("replay", "--handled", "app.Job", "--same-ids", "--dry-run")
    assert "0 messages would be" in run(*again, "--since", max_age)
    with pytest.raises(CommandError, match=rf"a later --since, such as {max_age}\."):
        run(*again)


def test_a_channel_that_is_not_published_any_more_is_named(
    relay: RelaySettings, broker: Broker
) -> None:
    run("relay", "--setup")
    outbox = Outbox(broker, Job, using="default")
    send(outbox, 0)
    sql("DELETE FROM pgpubsub_sql_subscription WHERE name = 'relay'")
    with pytest.raises(LookupError, match="Set relay = True on it, and run migrate"):
        Handled.objects.publish_again()


def test_it_is_kept_as_published_again_whatever_becomes_of_it_before(
    relay: RelaySettings, broker: Broker
) -> None:
    """Somebody replays it; or it is parked for a while, as the broker takes less."""
    run("relay", "--setup")
    outbox = Outbox(broker, Job, using="default")
    send(outbox, 0)
    assert Handled.objects.publish_again() == 1
    (row,) = Notification.objects.filter(subscription="relay")
    outbox._execute("park_in_outbox", {"ids": [row.pk], "error": "", "again": PUBLISHED_AGAIN})
    assert Notification.objects.filter(subscription="relay").replay() == 1
    assert outbox.publish_next().published == 1
    assert Handled.objects.filter(subscription="relay").count() == 2
    assert Handled.objects.published().count() == 1


def test_what_was_parked_before_it_was_published_counts_as_published(
    relay: RelaySettings, broker: Broker
) -> None:
    run("relay", "--setup")
    outbox = Outbox(broker, Job, using="default")
    notify_many([Job(0)])
    (row,) = Notification.objects.filter(subscription="relay")
    outbox._execute("park_in_outbox", {"ids": [row.pk], "error": "", "again": PUBLISHED_AGAIN})
    assert Notification.objects.parked().retry() == 1
    assert outbox.publish_next().published == 1
    assert Handled.objects.published().count() == 1


def test_what_was_never_published_is_not_sent(broker: Broker) -> None:
    """A copy of another subscription has the same number."""
    keep(
        source="FROM (VALUES (1, '', 'handled'), (2, 'relay', 'expired'))"
        " AS row (id, subscription, outcome)",
        slot="1",
        id="id",
        channel="'app.Job'",
        subscription="subscription",
        message="7",
        outcome="outcome",
    )
    assert Handled.objects.publish_again() == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--since", "8d"], "Give a later --since, such as 7d"),
        ([], "Give a later --since, such as 7d"),
        (["--since", "1h", "--subscription", "mail"], "is about the subscription 'relay'"),
    ],
)
def test_it_goes_no_further_back_than_receivers_remember(more: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run("replay", "--handled", "app.Job", "--same-ids", "--noinput", *more)


def test_it_is_about_the_history() -> None:
    with pytest.raises(CommandError, match="--same-ids is about messages that were handled"):
        run("replay", "app.Job", "--same-ids")
