"""Data that comes by NOTIFY on a durable channel: one worker stores it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.db import connection

from pgpubsub_sql import Channel, Notification, notify
from pgpubsub_sql.channels import key_names
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.worker.decoding import decode_message
from pgpubsub_sql.worker.doorbell import Doorbell
from pgpubsub_sql.worker.raw_notifies import RawNotifies
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemChannel, ItemNews, Job, Shout, Step
from tests.app.models import Item
from tests.conftest import Listen, eventually
from tests.ledger import calls, numbers, sql, stored, stranger
from tests.registries import blank  # noqa: F401 - a fixture
from tests.workers import connected, poll

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that listens; to it some channels are durable whose senders do not know that yet."""
    monkeypatch.setattr(ItemNews, "lock_notifications", True)
    monkeypatch.setattr(Shout, "lock_notifications", True)
    with connected(Job, ItemChannel, ItemNews, Shout, Step) as worker:
        poll(worker)
        worker._look_ahead()
        yield worker


@pytest.fixture
def other() -> Iterator[Doorbell]:
    """The ear of another worker."""
    doorbell = Doorbell(["app.Job"], using="default")
    doorbell.open()
    yield doorbell
    doorbell.close()


def send(*payloads: str, channel: str = "app.Job") -> None:
    for payload in payloads:
        sql("SELECT pg_notify(%s, %s)", channel, payload)


def hear(worker: Worker) -> None:
    """Wait for what was sent, and take it in."""
    assert worker.doorbell.has_notifies or worker.shutdown.wait([worker.doorbell], 30)
    worker._read()


def test_raw_notifies_are_stored_in_order_and_handled(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """P19: and the log says how to do better."""
    sql(
        "SELECT pg_notify('app.Job', jsonb_build_object('number', n)::text)"
        " FROM generate_series(1, 50) AS n"
    )
    hear(worker)
    assert [row.payload["number"] for row in Notification.objects.all()] == list(range(1, 51))
    while Notification.objects.exists():
        poll(worker)
    assert numbers("do_job") == list(range(1, 51))
    assert "Stored raw NOTIFYs on the durable channel app.Job (messages: 50)" in caplog.text
    assert "SELECT pgpubsub_notify(channel, payload)" in caplog.text


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("no JSON", "app.Job: JSON is malformed"),
        ("[1]", "app.Job: Expected `object`, got `array`"),
        ('{"number":', "app.Job: Input data was truncated"),
        ('{"number":' + "[" * 7900, "app.Job: "),  # how deep a text may go is Python's to say
        ("[" * 7000, "app.Job: "),
        ('{"a":' * 1500, "app.Job: "),
        ('{"number": 1, "mood": "\\u0000"}', "app.Job: it holds a NUL (\\u0000)"),
        ('{"number": 1, "mood": "\\ud800"}', "app.Job: Input data was truncated"),
        ('{"number": 1, "places": 1e999999}', "app.Job: It came by NOTIFY, and holds what"),
    ],
)
def test_a_payload_that_jsonb_refuses_is_parked_as_text(
    worker: Worker, payload: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19: and what comes along with it is handled."""
    with stranger() as cursor:
        cursor.execute("BEGIN")
        for one in ('{"number": 1}', payload, '{"number": 2}'):
            cursor.execute("SELECT pg_notify('app.Job', %s)", [one])
        cursor.execute("COMMIT")
    hear(worker)
    # A busy machine may take more than one batch.
    eventually(lambda: poll(worker) or not Notification.objects.ready().exists())
    assert numbers("do_job") == [1, 2]
    (parked,) = Notification.objects.all()
    assert parked.payload == {"$raw": payload}
    assert parked.available_at is None
    assert words in parked.last_error
    assert words in caplog.text


@pytest.mark.usefixtures("blank")
def test_text_is_no_message_even_if_every_field_has_a_default() -> None:
    """P19: it is no message of nothing but defaults, and what is replayed is parked again."""

    @dataclass
    class Anything(Channel):
        number: int = 0

    for channel in (Anything, ItemNews):
        with pytest.raises(PayloadError, match="malformed"):
            decode_message(channel, '{"$raw": "no JSON"}', using="default")


def test_a_raw_notify_is_stored_with_its_key(worker: Worker) -> None:
    """However it is spelled: as the same value has it that is sent as it should be."""
    notify(Step(account="a", number=1))
    worker.delivery.store("app.Step", ['{"account": "a"}', '{"kwargs": {"account": "a"}}'])
    worker.delivery.store("app.Step", ['{"account": null}', '{"kwargs": 1}', "no JSON"])
    keys = list(Notification.from_channel(Step).values_list("key", flat=True))
    assert keys == [*['["a"]'] * 3, *[None] * 3]


def test_a_long_key_is_stored_as_a_digest(worker: Worker) -> None:
    notify(Step(account="a" * 7000, number=1))
    worker.delivery.store("app.Step", [f'{{"account": "{"a" * 7000}"}}'])
    sent, raw = Notification.from_channel(Step).values_list("key", flat=True)
    assert sent == raw
    assert raw.startswith("sha256:")


def test_a_row_is_stored_with_its_key(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ItemNews, "ordering_key", ("name", "number"))
    rows = RawNotifies(ItemNews, worker.delivery.session)
    old, new = '{"name": "ä", "number": 1.0}', '{"name": "b", "number": null}'
    for pair in ((old, new), ("null", new), (old, "null"), ("null", "null"), ("1", "2")):
        rows.add(['{{"old": {}, "new": {}, "name": null}}'.format(*pair)], "public")
    rows.store()
    keys = list(Notification.objects.values_list("key", flat=True))
    assert keys == ['["b", null]', '["b", null]', '["ä", 1.0]', None, None]


def test_a_payload_that_does_not_fit_the_channel_is_parked(worker: Worker) -> None:
    """P19."""
    send('{"kwargs": {"nunber": 1}}', "{}")
    while Notification.objects.count() < 2:
        hear(worker)
    poll(worker)
    assert Notification.objects.parked().count() == 2


def test_a_message_from_another_schema_is_ignored(worker: Worker) -> None:
    send('{"number": 1, "$schema": "tenant"}', '{"number": 2, "$schema": "public"}')
    while not stored():
        hear(worker)
    assert list(stored()) == [2]


def test_one_elected_worker_stores_it(worker: Worker, other: Doorbell) -> None:
    assert worker.doorbell.elect("app.Job")
    assert worker.doorbell.elect("app.Job")
    assert not other.elect("app.Job")
    assert other.elect("app.Shout")
    assert not worker.doorbell.elect("app.Shout")
    send('{"number": 1}', channel="app.Shout")
    hear(worker)
    assert not stored()
    worker.doorbell.close()
    eventually(lambda: other.elect("app.Job"))


def test_notifies_that_arrive_during_the_election_are_not_lost(other: Doorbell) -> None:
    """An answer to a query brings it along, and the socket then has nothing more to tell."""
    send("{}")
    eventually(lambda: other.elect("app.Job") and other.has_notifies)
    assert [one.payload for one in other.notifies()] == ["{}"]
    assert not other.has_notifies


def test_a_refused_message_is_stored_later(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    sql("ALTER TABLE pgpubsub_sql_notification RENAME TO away")
    try:
        worker.doorbell._elected.add("app.Job")
        send('{"number": 1}')
        hear(worker)
        assert "Cannot store raw NOTIFYs on the durable channel app.Job" in caplog.text
    finally:
        sql("ALTER TABLE away RENAME TO pgpubsub_sql_notification")

    def is_handled() -> bool:
        poll(worker, "app.Job")
        return numbers("do_job") == [1]

    eventually(is_handled)


def test_a_lost_connection_loses_nothing(worker: Worker) -> None:
    """P9."""
    connection.ensure_connection()
    with stranger() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        cursor.execute("SELECT pg_notify('app.Job', '{\"number\": 1}')")
    hear(worker)
    while not numbers("do_job"):
        worker.step()
    assert numbers("do_job") == [1]


def test_notifies_of_a_trigger_that_does_not_store_yet_are_stored(worker: Worker) -> None:
    """The code comes first, the migration later; also of what was too long for its NOTIFY."""
    Item.objects.create(name="short")
    Item.objects.create(name="ä" * 20_000)
    assert LongPayload.objects.count() == 1
    while len(calls("news")) < 2:
        worker.step()
    assert [call["name"] for call in calls("news")] == ["short", "ä" * 20_000]
    assert not Notification.objects.exists()


def test_notifies_of_processes_not_restarted_yet_are_stored(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shout, "lock_notifications", False)
    notify(Shout(number=1))
    monkeypatch.setattr(Shout, "lock_notifications", True)
    while not numbers("hear"):
        worker.step()
    assert numbers("hear") == [1]


def elected() -> list[int]:
    """Return the server processes that hold the lock."""
    return [
        pid
        for (pid,) in sql(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            " AND classid = 'pgpubsub_sql_notification'::regclass"
        )
    ]


def test_several_workers_handle_each_raw_notify_once(listen: Callable[..., Listen]) -> None:
    """P19: and by another one when the one that stored it is gone."""
    worker = listen("--channels", "app.Job", "--processes", "3").ready(3)
    send(*[json.dumps({"number": number}) for number in range(100)])
    eventually(lambda: len(numbers("do_job")) >= 100)
    (first,) = elected()
    sql("SELECT pg_terminate_backend(%s)", first)
    eventually(lambda: worker.log.count("Listening to") == 4)
    send(*[json.dumps({"number": number}) for number in range(100, 200)])
    eventually(lambda: len(numbers("do_job")) >= 200)
    assert len(elected()) == 1
    assert first not in elected()
    eventually(lambda: not Notification.objects.exists())
    assert sorted(numbers("do_job")) == list(range(200))


def test_an_ordering_key_may_be_the_primary_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias ``pk``, which other options take, too."""
    monkeypatch.setattr(ItemNews, "ordering_key", ("pk", "name"))
    assert key_names(ItemNews) == ["id", "name"]
