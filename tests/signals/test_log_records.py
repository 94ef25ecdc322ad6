"""What log records say beside their text."""

from __future__ import annotations

import logging

import pytest

from pgpubsub_sql import Notification
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.delivery.sending import drain, jobs
from tests.ledger import sql
from tests.signals.support import DO_JOB, die, die_of, extras
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


def test_log_records_have_the_attributes_of_their_message(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    jobs("good", "bad", "call back badly")
    ids = [row.id for row in Notification.objects.all()]
    sql("UPDATE pgpubsub_sql_notification SET attempts = 4")
    delivery.handle_stored("app.Job")
    records = {
        extras(one)["notification_id"]: one for one in caplog.records if hasattr(one, "attempt")
    }
    assert list(records) == [ids[1], ids[2], ids[0]]
    for number, id in enumerate(ids):
        found = extras(records[id])
        assert found.pop("duration") > 0
        assert found == {
            "channel": "app.Job",
            "notification_id": id,
            "attempt": 5,
            "listener": DO_JOB if number == 1 else "",
        }
    assert "Handled a message of channel app.Job in 0." in caplog.text


def test_log_records_of_ephemeral_messages_have_their_attributes(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    for mood in ("bad", "discard"):
        hear(delivery, "app.Shout", f'{{"number": 1, "mood": "{mood}"}}')
    hear(delivery, "app.Shout", "{}")
    for record in caplog.records:
        assert extras(record)["channel"] == "app.Shout"
        assert extras(record)["notification_id"] is None
        assert extras(record)["duration"] > 0
    assert [extras(record)["listener"] for record in caplog.records][-1] == ""
    assert extras(caplog.records[0])["listener"] == "tests.app.listeners.hear"


def test_other_log_records_have_their_channel(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    jobs("good", "good")
    sql("UPDATE pgpubsub_sql_notification SET expires_at = clock_timestamp()")
    delivery.handle_stored("app.Job")
    jobs("good", "close")
    delivery.handle_stored("app.Job")
    delivery.store("app.Job", ['{"number": 7}'])
    counted = [(one.channel, one.count) for one in caplog.records if hasattr(one, "count")]
    assert counted == [("app.Job", 2), ("app.Job", 2), ("app.Job", 1)]
    drain(delivery)
    caplog.clear()
    jobs("commit raw")
    delivery.handle_stored("app.Job")
    (record,) = caplog.records
    assert record.channel == "app.Job"  # type: ignore[attr-defined]
    assert "A listener of channel app.Job has committed" in record.getMessage()


def test_the_log_record_of_a_death_has_the_attributes_of_its_message(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(listeners.MOODS, "die", die)
    die_of(0)
    (row,) = Notification.objects.all()
    assert extras(caplog.records[-1]) == {
        "channel": "app.Job",
        "notification_id": row.id,
        "attempt": 1,
        "listener": "",
        "duration": None,
    }
