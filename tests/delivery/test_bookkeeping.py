"""What a worker notes of each message: nothing that nobody will look at."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from pgpubsub_sql.models import Notification
from pgpubsub_sql.signals import message_succeeded
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.delivery import Delivery
from tests.delivery.sending import drain, jobs
from tests.ledger import calls

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the ids of the messages for which an attempt is made, not used again."""
    caplog.set_level(logging.INFO, logger="pgpubsub_sql.worker")
    ids: list[int] = []
    of_stored = Attempt.of_stored

    def count(channel: Any, name: str, claimed: Any, using: str) -> Attempt:
        ids.append(claimed.id)
        return of_stored(channel, name, claimed, using)

    monkeypatch.setattr(Attempt, "of_stored", count)
    return ids


def test_messages_that_succeed_share_an_attempt(delivery: Delivery, begun: list[int]) -> None:
    jobs(*["good"] * 10)
    drain(delivery)
    assert len(begun) == 1
    assert delivery.outcomes == Counter({type(None): 10})
    assert [call["attempts"] for call in calls("do_job")] == [0] * 10


def test_a_message_that_fails_keeps_its_attempt(
    delivery: Delivery, begun: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    jobs("good", "bad", "good", "bad", "good")
    ids = list(Notification.objects.order_by("id").values_list("id", flat=True))
    delivery.handle_stored("app.Job")
    failed = [one.notification_id for one in caplog.records if one.levelno == logging.ERROR]
    assert failed == [ids[1], ids[3]]
    assert begun == [ids[0], ids[2], ids[4]]
    assert delivery.outcomes.total() == 5


def test_a_callback_keeps_its_attempt(delivery: Delivery, caplog: pytest.LogCaptureFixture) -> None:
    """It runs after the commit, when others of the batch have been handled."""
    jobs("call back", "good", "call back", "good")
    ids = list(Notification.objects.order_by("id").values_list("id", flat=True))
    drain(delivery)
    failed = [one.notification_id for one in caplog.records if one.levelno == logging.ERROR]
    assert failed == [ids[0], ids[2]]


def test_receivers_get_an_attempt_of_each_message(delivery: Delivery, begun: list[int]) -> None:
    heard = []

    def receive(notification: Notification, duration: float, **kwargs: Any) -> None:
        heard.append((notification.id, duration > 0))

    message_succeeded.connect(receive)
    try:
        jobs("good", "good", "good")
        drain(delivery)
    finally:
        message_succeeded.disconnect(receive)
    assert heard == [(id, True) for id in begun]
    assert len(set(begun)) == 3
