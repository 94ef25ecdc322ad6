"""What is in the history after a batch: what was handled, and nothing else."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from pgpubsub_sql import Discard, Notification, notify
from pgpubsub_sql.models import Handled
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Load, Step
from tests.delivery.channels import LoneJob
from tests.delivery.sending import drain, hasten, jobs
from tests.history.conftest import WEEK
from tests.ledger import numbers, sql, stored

pytestmark = pytest.mark.django_db(transaction=True)


def kept(outcome: str = "handled") -> list[int]:
    """Return the numbers of the messages that are kept with this outcome."""
    rows = Handled.objects.filter(outcome=outcome).order_by("id")
    return [row.payload["number"] for row in rows]


@pytest.mark.parametrize("channel", [Job, Load, LoneJob])
def test_what_is_handled_is_kept_with_all_that_it_was(delivery: Delivery, channel: Any) -> None:
    jobs("good", "good", channel=channel)
    before = {row.pk: row for row in Notification.objects.all()}
    drain(delivery, channel)
    assert not stored()
    rows = {row.pk: row for row in Handled.objects.all()}
    assert rows.keys() == before.keys()
    for pk, row in rows.items():
        for name in ("channel", "subscription", "payload", "created_at", "key"):
            assert getattr(row, name) == getattr(before[pk], name)
        assert row.message == (before[pk].message or pk)
        assert (row.outcome, row.reason, row.attempts) == ("handled", "", 0)
        assert WEEK - datetime.timedelta(minutes=5) < row.kept_until - row.handled_at <= WEEK
        assert timezone.now() - row.handled_at < datetime.timedelta(minutes=5)


def test_what_is_handled_in_order_is_kept_with_its_key(delivery: Delivery) -> None:
    for number in range(6):
        notify(Step(account="ab"[number % 2], number=number))
    notify(Step(account=None, number=6))
    drain(delivery, Step)
    assert kept() == list(range(7))
    keys = Handled.objects.order_by("id").values_list("key", flat=True)
    assert list(keys) == ['["a"]', '["b"]'] * 3 + [None]


@pytest.mark.parametrize("channel", [Job, Load, LoneJob])
def test_what_fails_is_kept_once_it_is_handled(delivery: Delivery, channel: Any) -> None:
    jobs("good", "bad", "good", channel=channel)
    drain(delivery, channel)
    assert kept() == [1, 3]
    sql("UPDATE pgpubsub_sql_notification SET payload = jsonb_set(payload, '{mood}', '\"good\"')")
    hasten()
    drain(delivery, channel)
    assert kept() == [1, 2, 3]
    assert Handled.objects.get(payload__number=2).attempts == 1


def test_what_is_parked_is_not_kept(delivery: Delivery) -> None:
    jobs("bad")
    sql("UPDATE pgpubsub_sql_notification SET attempts = 9")
    drain(delivery)
    assert Notification.objects.parked().count() == 1
    assert not Handled.objects.exists()


@pytest.mark.parametrize("channel", [Job, Load, LoneJob])
def test_what_is_discarded_is_kept_with_the_reason(delivery: Delivery, channel: Any) -> None:
    jobs("good", "discard", channel=channel)
    drain(delivery, channel)
    assert (kept(), kept("discarded")) == ([1], [2])
    assert Handled.objects.get(outcome="discarded").reason == "it came too late"


def test_a_reason_that_postgresql_cannot_store_is_no_failure(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpubsub_sql.retry.Discard.__str__", lambda error: "\0\udcff")
    jobs("good", "discard")
    drain(delivery)
    assert Handled.objects.get(outcome="discarded").reason == "\\0\\udcff"


@pytest.mark.parametrize("channel", [Job, Load])
def test_what_has_expired_is_kept_as_expired(delivery: Delivery, channel: Any) -> None:
    notify(channel(number=1), expires=timezone.now() - datetime.timedelta(minutes=1))
    notify(channel(number=2), expires=timezone.now() + datetime.timedelta(hours=1))
    drain(delivery, channel)
    assert (kept(), kept("expired")) == ([2], [1])


def test_what_somebody_discards_is_kept(delivery: Delivery) -> None:
    """Of channels that keep nothing, nothing is."""
    jobs("good", "good")
    sql("SELECT pgpubsub_notify('app.ItemChannel', '{}')")
    assert Notification.objects.filter(payload__number=2).discard() == 1
    assert (kept(), kept("discarded")) == ([], [2])
    assert Notification.objects.discard() == 2
    assert kept("discarded") == [1, 2]
    assert not Notification.objects.exists()


def test_a_message_that_undoes_its_transaction_and_is_discarded_is_kept(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy of the claim is gone, and so is its row once it is deleted."""
    jobs("close")
    monkeypatch.setattr("pgpubsub_sql.worker.delivery._cause", lambda error: Discard("lost"))
    drain(delivery)
    assert not stored()
    assert Handled.objects.get().outcome == "discarded"
    assert Handled.objects.get().reason == "lost"


@pytest.mark.parametrize("mood", ["close", "roll back raw", "unseen error", "terminate"])
def test_a_batch_that_is_rolled_back_leaves_nothing(delivery: Delivery, mood: str) -> None:
    jobs("good", mood, "good")
    assert delivery.handle_stored("app.Job")
    assert not Handled.objects.exists()
    drain(delivery)
    assert kept() == numbers("do_job") == [1, 3]


@pytest.mark.parametrize("mood", ["commit raw and fail", "COMMIT"])
def test_a_batch_that_a_listener_commits_is_corrected(delivery: Delivery, mood: str) -> None:
    """What comes after the commit was not reached, and what failed goes back."""
    jobs("good", mood, "good")
    assert delivery.handle_stored("app.Job")
    handled = [1] if mood == "commit raw and fail" else [1, 2]
    assert kept() == handled
    assert sorted(stored()) == sorted({1, 2, 3} - {*handled})


def test_the_time_that_a_message_took_is_kept_if_it_was_long(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpubsub_sql.worker.batch.SLOW_SECONDS", 1000.0)
    jobs("good", "good")
    drain(delivery)
    assert {row.duration for row in Handled.objects.all()} == {None}
    monkeypatch.setattr("pgpubsub_sql.worker.batch.SLOW_SECONDS", 0.0)
    for channel in (Job, Load):
        jobs("good", "good", channel=channel)
        drain(delivery, channel)
    slow = Handled.objects.filter(duration__isnull=False)
    assert slow.count() == 4
    assert all(0 < row.duration < 60 for row in slow)


def test_a_released_message_is_kept_once(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs(*["good"] * 5)
    monkeypatch.setattr("pgpubsub_sql.worker.batch.BATCH_SECONDS", 1e-9)
    delivery.handle_stored("app.Job")
    assert kept() == [1]
    drain(delivery)
    assert kept() == [1, 2, 3, 4, 5]


def test_a_sequence_that_was_set_back_keeps_nobody_from_handling(delivery: Delivery) -> None:
    """An id comes twice then, and both messages are kept, also if the second one fails first."""
    jobs("good")
    drain(delivery)
    ((first, number),) = Handled.objects.values_list("pk", "message")
    sql("SELECT setval('pgpubsub_sql_notification_id_seq', %s, false)", number)
    notify(Job(number=2, mood="bad"))
    drain(delivery)
    assert kept() == [1]
    sql("UPDATE pgpubsub_sql_notification SET payload = %s", '{"number": 2}')
    hasten()
    drain(delivery)
    assert sorted(kept()) == [1, 2]
    assert Handled.objects.filter(pk=first).count() == 2


def test_what_a_channel_without_keep_handles_is_not_kept(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its claim says nothing of the history."""
    monkeypatch.setattr(Job, "keep", None)
    one = Delivery([Job], using="default", schema="public")
    state = next(iter(one._states.values()))
    assert "pgpubsub_sql_history" not in state.claims._take.text  # type: ignore[attr-defined]
    jobs("good")
    drain(one)
    assert not Handled.objects.exists()
