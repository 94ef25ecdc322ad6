"""F63: what a trigger channel tells comes from its trigger alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from pgpubsub_sql import Notification, notify
from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.worker import signatures
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemNews, Job, Place, Shout
from tests.app.models import Item
from tests.conftest import eventually
from tests.ledger import calls, numbers, sql, stranger
from tests.trust.support import FORGED, NEWS, pid_of, send, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("channel", ["app.ItemChannel", NEWS])
def test_an_unsigned_message_is_refused_and_its_sender_named(
    worker: Worker, forger: Any, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: listeners handled a row that never was, with a context that nobody set."""
    send(forger, channel, FORGED)
    send(forger, channel, FORGED.replace("{", '{"$schema": "public", ', 1))
    send(forger, channel, '{"$sig": "' + "0" * 64 + '", ' + FORGED[1:])
    send(forger, channel, "no JSON")
    Item.objects.create(name="real")
    work(worker)
    assert [call["name"] for call in calls("news")] == ["real"]
    assert [call["name"] for call in calls("item_inserted")] == ["real"]
    assert not Notification.objects.exists()
    said = f"channel {channel} (messages: 4, server processes that sent them: {pid_of(forger)}): "
    assert said in caplog.text
    assert "pgpubsub_notify(channel, payload)" in caplog.text


def test_refusals_are_logged_at_a_bounded_rate(
    worker: Worker, forger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: a flood of forged messages is no flood of log lines, nor of queries."""
    asked = []
    learn = worker.delivery.signatures.learn
    worker.delivery.signatures.learn = lambda: asked.append(learn())  # type: ignore[method-assign]
    for _ in range(3):
        forger.execute(
            "SELECT pg_notify(%s, %s || n) FROM generate_series(1, 1000) AS n", [NEWS, FORGED]
        )
        work(worker)
    assert caplog.text.count("Refused") == 1
    assert len(asked) < 30
    worker.delivery.signatures._report_at.clear()
    worker.delivery.signatures.report()
    told = re.findall(r"\(messages: (\d+), ", caplog.text)
    assert len(told) == 2
    assert sum(map(int, told)) == 3000


def test_forged_messages_do_not_take_the_place_of_real_ones(worker: Worker) -> None:
    """F63: they are refused before they wait for their listeners."""
    with transaction.atomic():
        Item.objects.create(name="real")
        sql("SELECT pg_notify(%s, n || %s) FROM generate_series(1, 10500) AS n", NEWS, FORGED)
    work(worker)
    assert [call["name"] for call in calls("news")] == ["real"]


@pytest.fixture
def overheard(forger: Any) -> Callable[[], str]:
    """What the stranger hears on a channel that tells of rows."""
    connection_ = forger.connection
    forger.execute(f'LISTEN "{NEWS.replace(chr(34), chr(34) * 2)}"')

    def hear() -> str:
        with stranger() as cursor:
            cursor.execute(
                "INSERT INTO app_item (name, number, amount, data) VALUES ('real', 1, 1, '{}')"
            )
        if hasattr(connection_, "poll"):

            def heard() -> Any:
                connection_.poll()
                return connection_.notifies

            eventually(heard)
            return str(connection_.notifies.pop().payload)
        return str(next(connection_.notifies()).payload)

    return hear


def test_an_overheard_message_cannot_be_repeated(
    worker: Worker, forger: Any, overheard: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """F63: not by another session, on no other channel, and not with another text."""
    payload = overheard()
    work(worker)
    assert len(calls("news")) == 1
    send(forger, NEWS, payload)
    send(forger, "app.ItemChannel", payload)
    send(forger, NEWS, payload.replace("real", "fake"))
    work(worker)
    assert len(calls("news")) == 1
    assert len(calls("item_inserted")) == 1
    assert "they have no valid signature" in caplog.text


def test_a_session_cannot_repeat_its_own_messages(
    worker: Worker, forger: Any, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: signed for this session they are, and known again."""
    sql(f"GRANT INSERT ON app_item TO {role}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    admitted = []
    accepts = worker.delivery.signatures.accepts
    worker.delivery.signatures.accepts = lambda *given: admitted.append(given) or accepts(*given)  # type: ignore[method-assign]
    forger.execute("INSERT INTO app_item (name, number, amount, data) VALUES ('once', 1, 1, '{}')")
    work(worker)
    (payload,) = [given[1] for given in admitted if given[0] is ItemNews]
    send(forger, NEWS, payload)
    work(worker)
    assert [call["name"] for call in calls("news")] == ["once"]
    assert "they are copies of messages that were received before" in caplog.text


def test_remembered_signatures_are_bounded(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "REMEMBERED", 3)
    gate = worker.delivery.signatures
    assert all(gate._is_new(str(number)) for number in range(7))
    assert not any(gate._is_new(str(number)) for number in range(3, 7))
    assert len(gate._recent | gate._older) == 4


def test_an_unsigned_reference_is_refused(
    worker: Worker, forger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: neither to a long payload of another channel nor to one of this."""
    Item.objects.create(name="ä" * 20_000)
    notify(Shout, number=7, places=[Place("a place")] * 1_000)
    work(worker)
    assert numbers("hear") == [7, -1]
    for reference in LongPayload.objects.values_list("id", flat=True):
        for name in ("app.Shout", "app.Job", NEWS):
            send(forger, name, f'{{"number": 8, "$ref": {reference}}}')
    work(worker)
    assert numbers("hear") == [7, -1, -1]
    assert len(calls("news")) == 1
    assert not numbers("do_job")
    assert "Refused messages that came by NOTIFY on channel app.Shout (messages: 2, " in caplog.text


def test_accept_raw_notify_decides_for_a_plain_channel(
    worker: Worker, forger: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: raw pg_notify is a feature of plain channels, and can be closed."""
    send(forger, "app.Shout", '{"number": 1}')
    send(forger, "app.Job", '{"number": 1}')
    work(worker)
    monkeypatch.setattr(Job, "accept_raw_notify", False)
    send(forger, "app.Job", '{"number": 2}')
    notify(Job, number=3)
    work(worker)
    assert numbers("do_job") == [1, 3]
    assert "on channel app.Job (messages: 1" in caplog.text
    monkeypatch.setattr(Shout, "accept_raw_notify", False)
    send(forger, "app.Shout", '{"number": 4}')
    notify(Shout, number=5)
    while 5 not in numbers("hear"):
        worker.step()
    assert 4 not in numbers("hear")


def test_accept_raw_notify_opens_a_trigger_channel(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F63: where the trigger is hand-written."""
    monkeypatch.setattr(ItemNews, "accept_raw_notify", True)
    sql("SELECT pg_notify(%s, %s)", NEWS, FORGED)
    work(worker)
    assert [call["name"] for call in calls("news")] == ["forged"]


def test_signed_data_on_a_channel_that_was_made_durable_is_stored(
    worker: Worker, forger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: in a rolling deployment an old trigger or process still sends it."""
    item = Item.objects.create(name="real")
    row = {"id": item.id, "name": "old trigger", "number": 1, "amount": "1.00", "data": {}}
    change = json.dumps({"op": "INSERT", "when": "AFTER", "old": None, "new": row, "context": {}})
    sql("SELECT pgpubsub_send_v1('app.ItemChannel', %s)", change)
    sql(
        "SELECT pgpubsub_send_v1('app.Job', jsonb_build_object('number', 1, 'mood', %s::text))",
        "good",
    )
    send(forger, "app.ItemChannel", change)
    work(worker)
    assert [call["name"] for call in calls("item_inserted")] == ["real", "old trigger"]
    assert numbers("do_job") == [1]
    assert "on channel app.ItemChannel (messages: 1, " in caplog.text
