"""Hearing NOTIFY, over a connection of its own."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest
from django.db import connection

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql import render
from pgpubsub_sql.worker import doorbell as doorbell_module
from pgpubsub_sql.worker.doorbell import Doorbell, Notify
from tests.conftest import eventually
from tests.ledger import backends, sql, stranger

pytestmark = pytest.mark.django_db(transaction=True)
STRANGE = 'item "news" äöü'


@pytest.fixture
def doorbell() -> Iterator[Doorbell]:
    doorbell = Doorbell(["app.Job", STRANGE], using="default")
    doorbell.open()
    yield doorbell
    doorbell.close()


def heard(doorbell: Doorbell) -> list[Notify]:
    """Wait until its socket says so, then return what was heard."""
    assert select.select([doorbell], [], [], 30)[0]
    return doorbell.notifies()


def test_it_uses_djangos_driver(doorbell: Doorbell) -> None:
    """P18: where psycopg 3 is installed beside psycopg2, Django prefers it; the peer crashes."""
    connection.ensure_connection()
    assert type(doorbell._connection) is type(connection.connection)


def test_names_and_payloads_arrive_unchanged(doorbell: Doorbell) -> None:
    assert doorbell.notifies() == []
    sql("SELECT pg_notify(%s, %s)", STRANGE, '{"text": "ß € 💡 \\"quoted\\""}')
    assert heard(doorbell) == [Notify(STRANGE, '{"text": "ß € 💡 \\"quoted\\""}')]
    sql("SELECT pg_notify('app.Job', ''), pg_notify('other', '')")
    assert heard(doorbell) == [Notify("app.Job", "")]
    assert doorbell.notifies() == []


def test_notifies_sent_while_it_opens_arrive(
    doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    doorbell.close()
    early = "SELECT pg_notify('app.Job', 'early')"
    monkeypatch.setattr(doorbell, "_verify", lambda _: sql(early))
    doorbell.open()
    assert doorbell.notifies() == [Notify("app.Job", "early")]


def test_a_burst_arrives_completely(doorbell: Doorbell) -> None:
    sql("SELECT pg_notify('app.Job', n || repeat('x', 1000)) FROM generate_series(1, 2000) AS n")
    notifies: list[Notify] = []
    eventually(lambda: notifies.extend(heard(doorbell)) or len(notifies) == 2000)
    assert [int(one.payload.rstrip("x")) for one in notifies] == list(range(1, 2001))


def test_its_connection_is_its_own(doorbell: Doorbell) -> None:
    """P12: closing Django's connection does not end listening; no transaction is left open."""
    connection.close()
    sql("SELECT pg_notify('app.Job', '')")
    assert heard(doorbell)
    assert sql(
        "SELECT state FROM pg_stat_activity WHERE pid = %s", *backends("pgpubsub_sql listen")
    ) == [("idle",)]


def test_a_lost_connection_is_an_error_and_it_can_be_opened_again(doorbell: Doorbell) -> None:
    """P9."""
    (pid,) = backends("pgpubsub_sql listen")
    sql("SELECT pg_terminate_backend(%s)", pid)
    with pytest.raises(doorbell.errors):  # noqa: PT012 - two reads
        while heard(doorbell) == []:  # the server's farewell first, then the end
            pass
    doorbell.close()
    doorbell.open()
    sql("SELECT pg_notify('app.Job', '')")
    assert heard(doorbell) == [Notify("app.Job", "")]


def test_a_closed_connection_is_an_error(doorbell: Doorbell) -> None:
    doorbell._connection.close()
    with pytest.raises(doorbell.errors):
        doorbell.fileno()
    doorbell.close()
    doorbell.close()


def test_a_pooler_that_drops_listen_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def dropped(template: str, channel: str) -> str:
        return listen(template, channel=channel) if channel == "app.Job" else "SELECT 1"

    listen = render
    monkeypatch.setattr(doorbell_module, "render", dropped)
    doorbell = Doorbell(["app.Job", "app.Other"], using="default")
    with pytest.raises(NotReady, match=r"LISTEN app\.Other had no effect\. A pooler"):
        doorbell.open()
    doorbell.close()


def test_other_sessions_may_notify(doorbell: Doorbell) -> None:
    with stranger() as cursor:
        cursor.execute("NOTIFY \"app.Job\", 'from afar'")
    assert heard(doorbell) == [Notify("app.Job", "from afar")]


def test_the_server_shows_it_for_another_purpose(doorbell: Doorbell) -> None:
    """If its connection is lost meanwhile, that is an error like any other."""
    doorbell.show("pgpubsub_sql other")
    (pid,) = backends("pgpubsub_sql other")
    sql("SELECT pg_terminate_backend(%s)", pid)
    eventually(lambda: not backends("pgpubsub_sql other"))
    with pytest.raises(doorbell.errors):
        doorbell.show("pgpubsub_sql listen")
