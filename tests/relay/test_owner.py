"""Two databases with one origin: only one publishes, and the other one's messages wait."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pgpubsub_sql import notify
from pgpubsub_sql.errors import BrokerRefused
from pgpubsub_sql.models import Notification
from pgpubsub_sql.relay import outbox as outboxes
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.outbox import Outbox
from pgpubsub_sql.relay.owner import this_database
from pgpubsub_sql.relay.settings import RelaySettings
from tests.app.channels import Job
from tests.conftest import eventually
from tests.ledger import sql
from tests.management.support import run, run_json
from tests.relay.registration import registered
from tests.relay.test_publisher import publishes
from tests.relay.test_publishing import held

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _relayed(
    transactional_db: None, relay: RelaySettings, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Both databases publish jobs under the same origin."""
    monkeypatch.setattr(Job, "relay", True)
    monkeypatch.setattr(outboxes, "LOOK_SECONDS", 0.0)
    settings.PGPUBSUB_RELAY = {
        "servers": list(relay.servers),
        "origin": relay.origin,
        "replicas": 1,
    }
    with registered("app.Job"), registered("app.Job", using="other"):
        yield


def waiting(using: str) -> list[int]:
    rows = Notification.objects.using(using).filter(subscription="relay").order_by("id")
    return [row.payload["number"] for row in rows]


def refused(*command: str) -> str:
    """Return what a command prints that fails, and its error."""
    output = io.StringIO()
    with pytest.raises(CommandError) as error:
        call_command("pgpubsub", *command, stdout=output)
    return output.getvalue() + str(error.value)


def test_a_second_database_waits_until_it_takes_over(relay: RelaySettings, broker: Broker) -> None:
    """Then the first one waits; nothing is lost, and receivers see one sender at a time."""
    (row,) = run_json("relay", "--setup")
    stream = Stream(origin=relay.origin or "", channel="app.Job", generation=1, partition=0)
    assert row == {"stream": stream.name, "done": "made"}
    ours, theirs = this_database("default"), this_database("other")
    notify(Job(1))
    notify(Job(2), using="other")
    with publishes(relay, "default"), publishes(relay, "other"):
        eventually(lambda: waiting("default") == [])
        eventually(lambda: run_json("status", "--database", "other")["relays_stuck"] == 1)
        assert run_json("status")["relays_stuck"] == 0
        for command in (["--check", "--json"], ["--setup"]):
            said = refused("relay", *command, "--database", "other")
            assert f"The database {ours} publishes to the stream {stream}" in said
            assert f"this one, {theirs}, must not" in said
            assert "--setup --take-over" in said
        assert (held(broker, stream), waiting("other")) == ([1], [2])

        (row,) = run_json("relay", "--setup", "--take-over", "--database", "other")
        assert row["done"] == "changed"
        eventually(lambda: held(broker, stream) == [1, 2], within=60)
        eventually(lambda: run_json("status", "--database", "other")["relays_stuck"] == 0)
        notify(Job(3))
        eventually(lambda: run_json("status")["relays_stuck"] == 1, within=60)
        with pytest.raises(BrokerRefused, match=r"must not\. Its messages wait"):
            Outbox(broker, Job, using="default").publish_next()
    assert (held(broker, stream), waiting("default")) == ([1, 2], [3])


def test_a_stream_that_nobody_owns_is_adopted_first(
    relay: RelaySettings, broker: Broker, stream: Stream
) -> None:
    """It was made by hand, or by a receiver that came first."""
    notify(Job(1))
    outbox = Outbox(broker, Job, using="default")
    with pytest.raises(BrokerRefused, match=r"does not say which .* relay --setup$"):
        outbox.publish_next()
    assert waiting("default") == [1]
    assert run_json("relay", "--setup") == [{"stream": stream.name, "done": "changed"}]
    assert run_json("relay", "--setup") == [{"stream": stream.name, "done": "exists"}]
    assert outbox.publish_next().published == 1
    assert held(broker, stream) == [1]
    assert run_json("relay", "--setup") == [{"stream": stream.name, "done": "exists"}]


def test_a_database_is_known_by_its_server_and_its_number() -> None:
    """Whatever it is called; a standby that is promoted has both."""
    ((system, oid),) = sql(
        "SELECT (pg_control_system()).system_identifier, oid FROM pg_database"
        " WHERE datname = current_database()"
    )
    assert this_database("default").identity == f"{system}/{oid}"
    assert this_database("other") != this_database("default")


def test_taking_over_is_a_part_of_setup() -> None:
    with pytest.raises(CommandError, match="--take-over is a part of --setup"):
        run("relay", "--check", "--take-over")
