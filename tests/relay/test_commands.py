"""``pgpubsub relay`` and ``listen --relay``, as an operator uses them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from example.relay.servers import Nats
from pgpubsub_sql.errors import BrokerRefused
from pgpubsub_sql.models import Inbox, Notification, Position
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.publishing import CLOSED, publish
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import make
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.ledger import numbers
from tests.management.support import run, run_json
from tests.relay.test_publishing import message


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of Job come from elsewhere."""
    monkeypatch.setattr(Job, "received_from", "nats")


@pytest.fixture
def configured(relay: RelaySettings, settings: Any, received: None) -> RelaySettings:
    """This project receives what the test's own origin publishes."""
    settings.PGPUBSUB_RELAY = {
        "servers": list(relay.servers),
        "sources": [relay.origin],
        "replicas": 1,
    }
    return relay


def row() -> dict[str, Any]:
    """Return the only row of ``--check``, whether or not it fails."""
    output = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command("pgpubsub", "relay", "--check", "--json", stdout=output)
    (found,) = json.loads(output.getvalue())
    return dict(found)


@pytest.mark.django_db
def test_setup_makes_what_is_missing_and_check_waits_for_a_receiver(
    configured: RelaySettings, broker: Broker
) -> None:
    stream = Stream(origin=configured.origin or "", channel="app.Job", generation=1, partition=0)
    with pytest.raises(CommandError, match=r"Something is wrong with pgpubsub\.test"):
        run("relay", "--check")
    assert "has to publish this channel" in row()["problem"]
    assert run_json("relay", "--setup") == [{"stream": stream.name, "done": "made"}]
    assert run_json("relay", "--setup") == [{"stream": stream.name, "done": "exists"}]
    broker.run(publish(broker, stream, [message(1), message(2)]))
    assert row() == {
        "stream": stream.name,
        "channel": "app.Job",
        "way": "in",
        "messages": 0,
        "waiting": 2,
        "problem": "Nothing was received yet. Run: python manage.py listen --relay",
    }


@pytest.mark.django_db
def test_what_was_made_anew_is_shown_and_accepted(
    configured: RelaySettings, broker: Broker, stream: Stream
) -> None:
    broker.run(publish(broker, stream, [message(1), message(2)]))
    Position.objects.create(stream=stream.name, created="2026-01-31", sequence=1, message_id="x")
    assert "was made anew" in row()["problem"]
    assert "accepted. It is read from message 1 on" in run("relay", "--accept", stream.name)
    position = Position.objects.get()
    assert (position.sequence, position.message_id, position.problem) == (0, None, "")
    assert run_json("relay", "--check") == [
        {
            "stream": stream.name,
            "channel": "app.Job",
            "way": "in",
            "messages": 0,
            "waiting": 2,
            "problem": "",
        }
    ]


@pytest.mark.django_db
def test_a_receiver_that_has_stopped_is_shown(
    configured: RelaySettings, broker: Broker, stream: Stream, info: Callable[..., dict[str, Any]]
) -> None:
    """Something waits, and nothing has come for minutes."""
    broker.run(publish(broker, stream, [message(1), message(2)]))
    created = info(stream)["created"]
    position = Position.objects.create(stream=stream.name, created=created, sequence=1)
    assert row()["problem"] == ""
    moved = position.moved_at - datetime.timedelta(minutes=7)
    Position.objects.update(moved_at=moved)
    assert row()["problem"].startswith("Messages wait, but none was received for 7 minutes.")
    Position.objects.update(sequence=2)
    assert row()["problem"] == ""
    Position.objects.update(sequence=1, message_id=CLOSED)
    assert row()["problem"] == ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("days", "said"), [(6, ""), (7, ""), (8, "It keeps messages for 8 days"), (0, "without end")]
)
def test_a_stream_that_outlasts_the_inbox_is_shown(
    configured: RelaySettings,
    broker: Broker,
    stream: Stream,
    info: Callable[..., dict[str, Any]],
    days: int,
    said: str,
) -> None:
    """What is read again, as after --accept, is only dropped as long as it is known."""
    found = info(stream)
    changed = found["config"] | {"max_age": days * 86_400 * 10**9}
    broker.run(broker.api(f"STREAM.UPDATE.{stream}", changed))
    Position.objects.create(stream=stream.name, created=found["created"], sequence=0)
    assert said in row()["problem"]
    assert bool(said) == bool(row()["problem"])


@pytest.mark.django_db
def test_a_stream_that_is_gone_is_shown(configured: RelaySettings, stream: Stream) -> None:
    gone = dataclasses.replace(stream, partition=1)
    Position.objects.create(stream=gone.name, created="2026-01-31", sequence=7)
    with pytest.raises(CommandError, match=f"{re.escape(gone.name)}\\.$"):
        run("relay", "--check")
    assert "It is gone, and its position here is forgotten" in run("relay", "--accept", gone.name)
    assert row()["stream"] == stream.name


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["nonsense", "pgpubsub+nobody+app=2EJob+1+0"])
def test_only_a_stream_that_exists_can_be_accepted(configured: RelaySettings, name: str) -> None:
    with pytest.raises(CommandError, match=r"There is no stream .*relay --check"):
        run("relay", "--accept", name)


@pytest.mark.django_db
def test_only_a_stream_that_was_read_can_be_accepted(
    configured: RelaySettings, stream: Stream
) -> None:
    with pytest.raises(CommandError, match="was never read here"):
        run("relay", "--accept", stream.name)


@pytest.mark.django_db
def test_what_this_project_publishes_is_not_accepted(
    relay: RelaySettings, settings: Any, stream: Stream
) -> None:
    """Its position says which generation is published to."""
    settings.PGPUBSUB_RELAY = {"servers": list(relay.servers), "origin": relay.origin}
    gone = dataclasses.replace(stream, partition=1)
    for one in (stream, gone):
        Position.objects.create(stream=one.name, created="", sequence=0)
        with pytest.raises(CommandError, match="was never read here"):
            run("relay", "--accept", one.name)
    assert Position.objects.count() == 2


@pytest.mark.django_db
def test_a_publisher_may_close_older_generations(
    relay: RelaySettings, settings: Any, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its permissions name them."""
    monkeypatch.setattr(Job, "relay", True)
    settings.PGPUBSUB_RELAY = {
        "servers": list(relay.servers),
        "origin": relay.origin,
        "replicas": 1,
        "partitions": 2,
    }
    _, _, printed = run("relay", "--setup").partition("in its configuration:")
    assert re.findall(r'app=2EJob\.(\d\.\d)"', printed) == ["1.0", "2.0", "2.1"]


@pytest.mark.django_db
def test_without_the_setting_it_says_what_to_set(settings: Any) -> None:
    settings.PGPUBSUB_RELAY = None
    with pytest.raises(CommandError, match="PGPUBSUB_RELAY is not set"):
        run("relay", "--check")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ([], None, "PGPUBSUB_RELAY is not set"),
        ([], {"servers": ["nats://127.0.0.1:1"]}, "has no 'sources'"),
        (["--processes", "2"], {}, "--relay runs one process: leave out --processes"),
        (
            ["--drain"],
            {},
            "--relay publishes and receives in this process alone.*: leave out --drain",
        ),
        (["--channels", "app.Step"], {}, "none of these channels has relay or received_from"),
    ],
)
def test_listen_refuses_what_cannot_work(
    settings: Any, received: None, options: list[str], given: Any, said: str
) -> None:
    settings.PGPUBSUB_RELAY = given
    with pytest.raises(CommandError, match=said):
        call_command("listen", "--relay", *options)


def test_from_a_program_to_a_listener_with_the_least_permissions(
    relay: RelaySettings,
    configured: RelaySettings,
    listen: Callable[..., Listen],
) -> None:
    """A program publishes, ``listen --relay`` receives, and another ``listen`` handles."""
    printed = run("relay", "--setup").partition("in its configuration:")[2].strip()
    assert relay.origin is not None
    users = printed.replace("user: receiver", "user: receiver, password: r").replace(
        f"user: {relay.origin}", f"user: {relay.origin}, password: s"
    )
    admin = "{ user: admin, password: a }"
    stream = Stream(origin=relay.origin, channel="app.Job", generation=1, partition=0)
    with Nats(extra=f"authorization {{ users: [ {admin}\n {users} ] }}") as nats:
        given = dataclasses.replace(relay, servers=tuple(nats.urls), password="a", user="admin")
        with Broker(given) as admin_broker:
            admin_broker.run(make(admin_broker, stream))
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.relay.project",
            "RELAY": json.dumps(
                {
                    "servers": nats.urls,
                    "sources": [relay.origin],
                    "user": "receiver",
                    "password": "r",
                }
            ),
        }
        receiver = listen("--relay", **environment)
        worker = listen(**environment).ready()
        with Broker(dataclasses.replace(given, user=relay.origin, password="s")) as sender:
            sender.run(publish(sender, stream, [message(number) for number in range(20)]))
            eventually(lambda: numbers("do_job") == list(range(20)))
            other = dataclasses.replace(stream, origin="other")
            with pytest.raises(BrokerRefused, match="Grant it"):
                sender.run(sender.request(other.subject, b"{}"))
        assert receiver.stop() == 0, receiver.log
        assert worker.stop() == 0, worker.log
    assert Inbox.objects.count() == 20
    assert not Notification.objects.exists()
