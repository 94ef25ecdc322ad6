"""Ephemeral messages."""

from __future__ import annotations

import datetime
import logging

import pytest
from django.db import connection
from django.utils import timezone

from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.isolation import IDLE
from tests.app import listeners
from tests.ledger import calls, numbers, sql

pytestmark = pytest.mark.django_db(transaction=True)


def test_sweep_deletes_only_expired_payloads(delivery: Delivery) -> None:
    now = timezone.now()
    hour = datetime.timedelta(hours=1)
    LongPayload.objects.create(payload={}, expires_at=now - hour)
    kept = LongPayload.objects.create(payload={}, expires_at=now + hour)
    delivery.sweep()
    assert list(LongPayload.objects.all()) == [kept]


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "no JSON",
        "[]",
        "null",
        "7",
        "{}",
        '{"kwargs": 1}',
        '{"number": "x"}',
        "[" * 7000,
        '{"number":',
    ],
)
def test_an_unreadable_message_is_logged_with_its_channel(
    delivery: Delivery, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19."""
    delivery.handle_ephemeral("app.Shout", payload)
    assert "app.Shout cannot be read, and was dropped" in caplog.text
    delivery.handle_ephemeral("app.Shout", '{"number": 1}')
    assert numbers("hear") == [1]


@pytest.mark.parametrize("reference", ["-1", '"1"', "[]", "1e400", "9" * 30, "true", "1.5"])
def test_a_reference_to_a_missing_payload_is_dropped(
    delivery: Delivery, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19."""
    delivery.handle_ephemeral("app.Shout", f'{{"number": 1, "$ref": {reference}}}')
    assert "A message on channel app.Shout" in caplog.text
    assert not numbers("hear")


def test_a_message_from_another_schema_is_ignored(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    delivery.handle_ephemeral("app.Shout", '{"number": 1, "$schema": "tenant"}')
    delivery.handle_ephemeral("app.Shout", '{"number": 2, "$schema": "public"}')
    assert numbers("hear") == [2]
    assert not caplog.records


@pytest.mark.parametrize(
    "mood", ["bad", "broken-sql", "dangling", "close", "terminate", "exit", "retry after"]
)
def test_an_ephemeral_failure_ends_its_message_only(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P8, P12."""
    for number, one in enumerate(["good", mood, "good"], 1):
        delivery.handle_ephemeral("app.Shout", f'{{"number": {number}, "mood": "{one}"}}')
    assert numbers("hear") == [1, 3]
    assert numbers("hear_only_number") == [1, 3]
    assert (
        "channel app.Shout failed; it will not be retried, as it is not stored (listener tests."
        in caplog.text
    )
    assert "Traceback" in caplog.text


def test_async_listeners_join_the_transaction(delivery: Delivery) -> None:
    delivery.handle_ephemeral("app.Shout", '{"number": 1, "mood": "async"}')
    assert numbers("hear_async") == [1]


@pytest.mark.parametrize("mood", ["swallowed", "rollback", "never left", "commit raw and fail"])
def test_an_ephemeral_message_must_keep_its_transaction_intact(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost without a word: neither its writes nor those of the next."""
    for number, one in enumerate([mood, "good"], 1):
        delivery.handle_ephemeral("app.Shout", f'{{"number": {number}, "mood": "{one}"}}')
    assert 2 in numbers("hear")
    assert (
        "channel app.Shout failed; it will not be retried, as it is not stored (listener tests."
        in caplog.text
    )


def test_a_transaction_begins_only_for_messages_that_query(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ephemeral message that does not costs the server nothing."""
    begun: list[bool] = []

    def look() -> None:
        begun.append(connection.connection.info.transaction_status != IDLE)

    monkeypatch.setattr(listeners, "note", lambda *_, **__: look())
    monkeypatch.setitem(listeners.MOODS, "good", lambda: (sql("SELECT 1"), look()))
    delivery.handle_ephemeral("app.Shout", '{"number": 1}')
    assert begun == [False, True, True]


def test_an_ephemeral_message_has_a_transaction_of_its_own(delivery: Delivery) -> None:
    """So a durable block is at home in it."""
    delivery.handle_ephemeral("app.Shout", '{"number": 1, "mood": "durable"}')
    assert numbers("hear") == [1]
    assert len(calls("durable")) == 1


def test_an_ephemeral_message_may_be_discarded(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    delivery.handle_ephemeral("app.Shout", '{"number": 1, "mood": "discard"}')
    assert not numbers("hear")
    assert "was discarded by its listener: it came too late" in caplog.text
    assert "Traceback" not in caplog.text
