"""Two projects with processes of their own: one publishes, the other receives."""

from __future__ import annotations

import datetime
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from example.relay.servers import Nats
from pgpubsub_sql import notify_many
from pgpubsub_sql.models import Notification
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.publishing import outgoing, publish
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import make
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.ledger import WAIT_LOCK, listeners_wait, sql, waiting
from tests.management.support import run, run_json
from tests.relay.registration import registered
from tests.relay.test_publishing import held

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

STREAM = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
STEPS = Stream(origin="crm", channel="app.Step", generation=1, partition=0)
SENT: dict[str, Any] = {
    "origin": "crm",
    "channel": "app.Step",
    "message_id": "1",
    "created_at": datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC),
}
USERS = """authorization {{ users: [
    {{ user: admin, password: a }}
    {{ user: receiver, password: r }}
    {publisher}
] }}"""
NOT_PERMITTED = """{ user: publisher, password: p, permissions: {
    publish: ["$JS.API.STREAM.NAMES"], subscribe: ["_INBOX.>"] } }"""


@pytest.fixture
def commits_wait() -> Iterator[None]:
    """A publisher waits before its COMMIT, as long as :func:`listeners_wait` lasts."""
    sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" PERFORM pg_advisory_xact_lock_shared({WAIT_LOCK}); RETURN NULL; END $$"
    )
    sql(
        "CREATE TRIGGER wait AFTER DELETE ON pgpubsub_sql_notification"
        " FOR EACH STATEMENT EXECUTE FUNCTION wait()"
    )
    yield
    sql("DROP FUNCTION wait CASCADE")


def project(nats: Nats, user: str, **given: Any) -> dict[str, str]:
    """Return the environment of a project that is *user* of the broker."""
    found = {"servers": nats.urls, "user": user, "password": user[0], "replicas": 1, **given}
    return {"DJANGO_SETTINGS_MODULE": "tests.relay.project", "RELAY": json.dumps(found)}


def arrived() -> list[int]:
    rows = Notification.objects.using("other").order_by("id").values_list("payload", flat=True)
    return [row["number"] for row in rows]


def test_a_permission_that_is_missing_and_a_death_before_commit_lose_and_double_nothing(
    listen: Callable[..., Listen],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    commits_wait: None,
) -> None:
    """The least permissions that ``--setup`` prints are enough; a second relay takes over.

    That one also receives, beside publishing.
    """
    monkeypatch.setattr(Job, "relay", True)
    extra = USERS.format(publisher=NOT_PERMITTED)
    with registered("app.Job"), Nats(extra=extra) as nats:
        settings.PGPUBSUB_RELAY = {
            "servers": nats.urls,
            "origin": "shop",
            "replicas": 1,
            "user": "admin",
            "password": "a",
        }
        printed = run("relay", "--setup").partition("in its configuration:")[2].strip()
        publisher = listen("--relay", **project(nats, "publisher", origin="shop")).ready()
        listen("--relay", "--database", "other", **project(nats, "receiver", sources=["shop"]))
        notify_many(Job(number) for number in range(20))
        eventually(lambda: run_json("status")["relays_stuck"] == 1)
        assert "The broker does not permit it: " in publisher.log
        assert "Grant it to the user of the relay" in publisher.log

        permitted = printed.replace("user: publisher", "user: publisher, password: p")
        (node,) = nats.nodes
        with listeners_wait():
            node.configure(USERS.format(publisher=permitted), [])
            assert node.process is not None
            node.process.send_signal(signal.SIGHUP)
            admin = RelaySettings(servers=tuple(nats.urls), user="admin", password="a", replicas=1)
            with Broker(admin) as broker:
                eventually(lambda: waiting() == 1, within=60)
                assert held(broker, STREAM) == list(range(20))
                publisher.kill()
                eventually(lambda: waiting() == 0)
                both = project(nats, "admin", origin="shop", sources=["crm"])
                second = listen("--relay", **both).ready()
                eventually(lambda: waiting() == 1)
        notify_many(Job(number) for number in range(20, 25))
        eventually(lambda: arrived() == list(range(25)))
        with Broker(admin) as broker:
            broker.run(make(broker, STEPS))
            step = outgoing(payload='{"account": "a", "number": 1}', **SENT)
            broker.run(publish(broker, STEPS, [step]))
        eventually(lambda: Notification.objects.filter(channel="app.Step").exists())
        assert second.stop() == 0, second.log
    assert not Notification.objects.filter(subscription="relay").exists()
