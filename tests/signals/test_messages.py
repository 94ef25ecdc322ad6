"""What is told of a message: which signals, when, and with what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgpubsub_sql import Discard, Notification, RetryAfter, signals
from pgpubsub_sql.errors import PayloadError, WorkerDied
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import Job, Shout
from tests.delivery.sending import drain, jobs
from tests.ledger import numbers, sql, stored, stranger
from tests.signals.support import DO_JOB, die, die_of, names
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


def test_message_succeeded_is_sent_after_the_commit(
    delivery: Delivery, told: list[Any], connect: Callable[..., None]
) -> None:
    jobs("good")
    (row,) = Notification.objects.all()
    seen: list[Any] = []

    def look(**arguments: Any) -> None:
        with stranger() as cursor:
            cursor.execute("SELECT count(*) FROM app_entry")
            seen.extend(cursor.fetchone())

    connect(signals.message_succeeded, look)
    drain(delivery)
    assert seen == [1]
    assert names(told) == ["message_received", "message_succeeded"]
    for _, arguments in told:
        assert arguments["sender"] is Job
        assert arguments["using"] == "default"
        notification = arguments["notification"]
        assert (notification.id, notification.channel) == (row.id, "app.Job")
        assert (notification.attempts, notification.created_at) == (0, row.created_at)
    assert told[1][1]["duration"] > 0


@pytest.mark.parametrize(
    ("mood", "kind", "retried"),
    [("bad", RuntimeError, True), ("retry after", RetryAfter, True), ("discard", Discard, False)],
)
def test_message_failed_has_the_error_and_the_listener(
    delivery: Delivery, told: list[Any], mood: str, kind: type[BaseException], retried: bool
) -> None:
    jobs(mood)
    delivery.handle_stored("app.Job")
    assert names(told) == ["message_received", "message_failed"]
    arguments = told[1][1]
    assert isinstance(arguments["error"], kind)
    assert arguments["listener"] == DO_JOB
    assert arguments["duration"] > 0
    assert (arguments["retry_in"] is not None) == retried
    if mood == "retry after":
        assert arguments["retry_in"] == 1000


def test_message_parked_follows_message_failed(delivery: Delivery, told: list[Any]) -> None:
    sql("SELECT pgpubsub_notify('app.Job', '{}')")
    drain(delivery)
    assert names(told) == ["message_received", "message_failed", "message_parked"]
    assert told[1][1]["retry_in"] is None
    assert told[1][1]["listener"] == ""
    assert isinstance(told[2][1]["error"], PayloadError)


def test_each_message_of_a_batch_has_its_own_signals(delivery: Delivery, told: list[Any]) -> None:
    jobs("good", "bad", "good")
    delivery.handle_stored("app.Job")
    after = [(name, one["notification"].id) for name, one in told if name != "message_received"]
    first = min(id for _, id in after)
    assert after == [
        ("message_succeeded", first),
        ("message_failed", first + 2),  # each has taken a number for its copies, too
        ("message_succeeded", first + 4),
    ]


@pytest.mark.parametrize("mood", ["close", "roll back raw", "terminate"])
def test_no_outcome_is_sent_for_a_rolled_back_batch(
    delivery: Delivery, told: list[Any], mood: str
) -> None:
    """But what it is in the end, once."""
    jobs("good", mood, "good")
    drain(delivery)
    assert sorted(numbers("do_job")) == [1, 3]
    after = [name for name in names(told) if name != "message_received"]
    assert sorted(after) == ["message_failed", *["message_succeeded"] * 2]


def test_a_failure_at_commit_has_its_duration(delivery: Delivery, told: list[Any]) -> None:
    jobs("unseen dangling")
    delivery.handle_stored("app.Job")
    assert names(told) == ["message_received", "message_failed"]
    assert told[1][1]["duration"] > 0
    assert told[1][1]["listener"] == DO_JOB


def test_outcomes_are_sent_after_a_listeners_own_commit(
    delivery: Delivery, told: list[Any]
) -> None:
    jobs("commit raw and fail")
    delivery.handle_stored("app.Job")
    assert names(told) == ["message_received", "message_failed"]


def test_outcomes_are_sent_although_the_second_commit_fails(
    delivery: Delivery, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener has committed, and the COMMIT of what it did after that fails."""

    def commit_then_dangle() -> None:
        listeners.commit_raw()
        listeners.unseen_cursor().execute(listeners.DANGLING)

    monkeypatch.setitem(listeners.MOODS, "commit, dangle", commit_then_dangle)
    monkeypatch.setattr(listeners, "SILENT", ("commit, dangle",))
    jobs("commit, dangle")
    delivery.handle_stored("app.Job")
    assert names(told) == ["message_received", "message_succeeded"]
    assert not stored()


def test_message_received_is_not_sent_for_released_or_expired_messages(
    delivery: Delivery, told: list[Any]
) -> None:
    jobs("good", "good", "good")
    sql(
        "UPDATE pgpubsub_sql_notification SET expires_at = clock_timestamp()"
        " WHERE payload->'number' = '1'"
    )
    delivery.is_stopping = lambda: bool(numbers("do_job"))
    delivery.handle_stored("app.Job")
    assert names(told) == ["message_received", "message_succeeded"]
    assert list(stored()) == [3]


def test_message_failed_is_sent_for_a_message_that_killed_its_worker(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(listeners.MOODS, "die", die)
    die_of(0, 9)
    told[:] = [one for one in told if one[0] != "message_received"]
    assert names(told) == ["message_failed", "message_failed", "message_parked"]
    failed = told[0][1]
    assert failed["sender"] is Job
    assert isinstance(failed["error"], WorkerDied)
    (first,) = Notification.objects.waiting()
    assert failed["notification"].created_at == first.created_at
    assert (failed["listener"], failed["duration"]) == ("", None)
    assert failed["retry_in"] > 0


def test_signals_are_sent_for_ephemeral_messages(delivery: Delivery, told: list[Any]) -> None:
    hear(delivery, "app.Shout", '{"number": 1}')
    hear(delivery, "app.Shout", '{"number": 2, "mood": "bad"}')
    hear(delivery, "app.Shout", "{}")
    hear(delivery, "app.Shout", '{"number": 3, "$schema": "tenant"}')
    assert names(told) == [
        "message_received",
        "message_succeeded",
        *["message_received", "message_failed"] * 2,
    ]
    assert told[0][1]["sender"] is Shout
    assert told[0][1]["notification"].id is None
    assert told[3][1]["retry_in"] is None
    assert told[3][1]["listener"] == "tests.app.listeners.hear"
    assert isinstance(told[5][1]["error"], PayloadError)


def test_a_receiver_may_select_a_channel_as_sender(
    delivery: Delivery, connect: Callable[..., None]
) -> None:
    seen: list[Any] = []
    connect(signals.message_succeeded, lambda sender, **_: seen.append(sender), sender=Shout)
    jobs("good")
    drain(delivery)
    hear(delivery, "app.Shout", '{"number": 1}')
    assert seen == [Shout]
