"""F24: what arrives by NOTIFY never hinders the delivery of what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pgpubsub_sql import Notification, notify
from pgpubsub_sql.worker.raw_notifies import RawNotifies
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job
from tests.ledger import numbers, sql
from tests.trust.support import pid_of, send, work

pytestmark = pytest.mark.django_db(transaction=True)


REFERENCES = ["true", "false", "0", "-1", "1.5", str(2**63), "9" * 30, '"1"', "[]", "{}"]


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_forged_reference_stops_no_delivery(
    worker: Worker, forger: Any, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: PostgreSQL refused ``id = true``, and the worker never delivered the channel again."""
    notify(Job, number=1)
    send(forger, "app.Job", f'{{"number": 2, "$ref": {reference}}}')
    send(forger, "app.Job", f'{{"number": 3, "\\u0024ref": {reference}}}')
    send(forger, "app.Job", '{"number": 4}')
    send(forger, "app.Shout", f'{{"number": 5, "$ref": {reference}}}')
    work(worker)
    assert numbers("do_job") == [1, 4]
    assert numbers("hear") == [-1]
    assert f"server processes that sent them: {pid_of(forger)})" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.fixture
def picky() -> Iterator[None]:
    """A constraint of somebody's own, that none of these passes, not even as its text."""
    sql(
        "ALTER TABLE pgpubsub_sql_notification ADD CONSTRAINT picky"
        " CHECK (payload::text NOT LIKE '%%poison%%')"
    )
    yield
    sql("ALTER TABLE pgpubsub_sql_notification DROP CONSTRAINT picky")


def test_a_raw_notify_that_cannot_be_stored_delays_nothing_and_is_dropped_in_the_end(
    worker: Worker,
    picky: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F24: neither stored messages nor the raw NOTIFYs behind it, for however long it is tried."""
    notify(Job, number=1)
    worker.delivery.store("app.Job", ['{"number": 2}', '{"mood": "poison"}', '{"number": 3}'])
    while Notification.objects.exists():
        worker.delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1, 2, 3]
    assert "on the durable channel app.Job (messages: 1): " in caplog.text
    raw_notifies = worker.delivery._raw_notifies["app.Job"]
    assert [one.payload for one in raw_notifies._refused] == ['{"mood": "poison"}']
    end = raw_notifies._refused[0].until
    monkeypatch.setattr("time.monotonic", lambda: end)
    worker.delivery.handle_stored("app.Job")
    assert not raw_notifies._refused
    assert "refused to store it for ten minutes: {" in caplog.text


def test_refused_messages_are_stored_again_with_growing_delays(
    worker: Worker, picky: None, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: neither each batch of what is stored nor each new message tries it again."""
    raw_notifies = worker.delivery._raw_notifies["app.Job"]
    for number in range(50):
        notify(Job, number=number)
        worker.delivery.store("app.Job", ['{"mood": "poison"}'])
        worker.delivery.handle_stored("app.Job")
    assert sorted(numbers("do_job")) == list(range(50))
    assert len(raw_notifies._refused) == 50
    assert 1 <= caplog.text.count("Cannot store raw NOTIFYs") < 10


def test_raw_notifies_that_cannot_be_stored_wait_in_a_bounded_queue(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: what is wrong then is the table, and not they."""
    payloads = [json.dumps({"number": number}) for number in range(250)]
    sql("ALTER TABLE pgpubsub_sql_notification RENAME TO away")
    try:
        worker.delivery.store("app.Job", payloads)
        assert caplog.text.count("Cannot store raw NOTIFYs") == 1
    finally:
        sql("ALTER TABLE away RENAME TO pgpubsub_sql_notification")
    raw_notifies = RawNotifies(Job, worker.delivery.session)
    raw_notifies.add(["{}"] * 10_001, "public")
    assert len(raw_notifies._waiting) == 10_000
    while worker.delivery.handle_stored("app.Job"):
        pass
    assert sorted(numbers("do_job")) == list(range(250))
