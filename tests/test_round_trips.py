"""How many round trips to the server sending and listening take, counted on the wire."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from django.db import connection, transaction

from pgpubsub_sql import Channel, Notification, notification_context, notify, notify_many
from pgpubsub_sql.worker.doorbell import Doorbell
from tests.app.channels import Job, Shout
from tests.ledger import sql
from tests.proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = datetime.timedelta(hours=1)
LONG = "ä" * 9000
MIXED: list[Channel] = [Job(1), Shout(1), Shout(2, LONG), Job(2, LONG)]
SENDING: dict[str, Callable[[], None]] = {
    "durable": lambda: notify(Job, number=1),
    "durable and long": lambda: notify(Job, number=1, mood=LONG),
    "durable with options": lambda: notify(Job(1), delay=HOUR),
    "ephemeral": lambda: notify(Shout, number=1),
    "ephemeral and long": lambda: notify(Shout, number=1, mood=LONG),
    "many": lambda: notify_many(MIXED),
    "a thousand": lambda: notify_many(MIXED * 250),
}


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What new connections go through, Django's included."""
    with Proxy() as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        connection.close()
        sql("SELECT 1")
        yield proxy
        connection.close()
        monkeypatch.undo()


def counted(proxy: Proxy, call: Callable[[], object]) -> int:
    before = proxy.round_trips
    call()
    return proxy.round_trips - before


@pytest.mark.parametrize("how", SENDING)
def test_sending_takes_one_round_trip(proxy: Proxy, how: str) -> None:
    """P7: in autocommit mode, in a transaction, and beside a notification context."""
    send = SENDING[how]
    assert counted(proxy, send) == 1
    with transaction.atomic():
        sql("SELECT 1")
        assert counted(proxy, send) == 1
    with notification_context({"tenant": 7}):
        assert counted(proxy, send) == 1


def test_a_statement_of_ones_own_takes_as_many(proxy: Proxy) -> None:
    """So it is round trips that are counted, and all of them."""
    assert counted(proxy, lambda: sql("SELECT 1")) == 1
    assert counted(proxy, lambda: (sql("SELECT 1"), sql("SELECT repeat('x', 1000000)"))) == 2
    assert counted(proxy, lambda: [notify(Job, number=number) for number in range(5)]) == 5
    assert Notification.objects.count() == 5


def test_a_thousand_channels_take_no_more_to_listen_to_than_one(proxy: Proxy) -> None:
    def listen(count: int) -> None:
        doorbell = Doorbell([f"a {number} % name" for number in range(count)], using="default")
        doorbell.open()
        doorbell.close()

    few, many = (counted(proxy, partial(listen, count)) for count in (1, 1000))
    assert many == few
