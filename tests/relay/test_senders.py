"""Senders that differ from what is expected here: their version, their clock, their rights."""

from __future__ import annotations

import dataclasses
import json
import signal
from typing import Any

import pytest

from example.relay.servers import Nats
from pgpubsub_sql import notify
from pgpubsub_sql.models import Notification
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.outbox import Outbox
from pgpubsub_sql.relay.publishing import Outgoing
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import make
from tests.app.channels import Job
from tests.conftest import eventually
from tests.ledger import sql
from tests.relay.registration import make_ours, registered
from tests.relay.test_publishing import held
from tests.relay.test_receiver import Start, fill, has_stored, jobs, often, problem, start

__all__ = ["often", "start"]

pytestmark = pytest.mark.django_db(transaction=True)
SEVEN = "{time:08x}-0000-7000-8000-{number:012x}"
"""A UUID of version 7."""


def test_what_a_newer_version_sends_is_stored_whole(
    broker: Broker, stream: Stream, start: Start
) -> None:
    """Fields and headers that are not known here yet: it waits until they are."""
    (one,) = jobs(1)
    newer = Outgoing(
        payload=json.dumps({"number": 1, "mood": "good", "later": {"a": 1}}).encode(),
        headers={**one.headers, "ce-specversion": "9.0", "Later": "yes"},
    )
    fill(broker, stream, newer)
    fill(broker, stream, *jobs(2))
    start()
    eventually(has_stored(1, 2))
    assert Notification.objects.order_by("id")[0].payload["later"] == {"a": 1}


def test_a_clock_that_was_set_back_changes_no_order(broker: Broker, stream: Stream) -> None:
    """The sender's: messages are published by their number."""
    make_ours(broker, stream)
    with registered("app.Job"):
        for number in range(3):
            notify(Job(number))
            sql(
                "UPDATE pgpubsub_sql_notification"
                " SET created_at = created_at - %s * interval '1 h',"
                " available_at = available_at - %s * interval '1 h'"
                " WHERE (payload ->> 'number')::integer = %s",
                number,
                number,
                number,
            )
        assert Outbox(broker, Job, using="default").publish_next().published == 3
    assert held(broker, stream) == [0, 1, 2]


@pytest.mark.parametrize("time", [0, 2**32 - 1], ids=["1970", "far ahead"])
def test_the_time_of_an_id_matters_to_nobody(
    broker: Broker, stream: Stream, start: Start, time: int
) -> None:
    """The clocks of sender and receiver need not agree: the inbox forgets by arrival."""
    (job,) = jobs(1)
    known = SEVEN.format(time=time, number=1)
    again = dataclasses.replace(job, headers={**job.headers, "Nats-Msg-Id": known})
    second = dataclasses.replace(stream, partition=1)
    broker.run(make(broker, second))
    fill(broker, stream, again)
    one: Any = start()
    eventually(has_stored(1))
    one.stop()
    start()  # it sweeps the inbox
    fill(broker, second, again, *jobs(2))
    eventually(has_stored(1, 2))


NOT_PERMITTED = """authorization {{ users: [
    {{ user: admin, password: a }}
    {{ user: receiver, password: r, permissions: {{
        publish: ["$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*"{more}]
        subscribe: ["_INBOX.>"] }} }}
] }}"""


def test_a_receiver_that_lacks_a_permission_says_so_and_goes_on_once_it_has_it(
    start: Start,
) -> None:
    with Nats(extra=NOT_PERMITTED.format(more="")) as nats:
        settings = RelaySettings(
            servers=tuple(nats.urls), origin="shop", replicas=1, user="admin", password="a"
        )
        stream = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
        with Broker(settings) as admin:
            admin.run(make(admin, stream))
            fill(admin, stream, *jobs(1))
        start(settings=dataclasses.replace(settings, user="receiver", password="r"))
        eventually(lambda: "The broker does not permit it: " in problem())
        assert f"consumer.create.{stream.name}".lower() in problem().lower()
        (node,) = nats.nodes
        node.configure(NOT_PERMITTED.format(more=', "$JS.API.CONSUMER.>"'), [])
        assert node.process is not None
        node.process.send_signal(signal.SIGHUP)
        eventually(has_stored(1), within=60)
        eventually(lambda: problem() == "")
