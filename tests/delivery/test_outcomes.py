"""What becomes of a stored message: done, tried again, parked, discarded."""

from __future__ import annotations

import datetime
import logging
import re
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from pgpubsub_sql import Retry, RetryAfter, notify
from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker import outcomes
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.outcomes import Park, TryAgain, after_failure
from tests.app import listeners
from tests.app.channels import ItemChannel, Job, Step
from tests.app.listeners import called
from tests.app.models import Item
from tests.delivery.channels import Twice
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import calls, numbers, sql, stored
from tests.patience import WAITS

pytestmark = pytest.mark.django_db(transaction=True)


def test_handled_messages_are_deleted_in_order(delivery: Delivery) -> None:
    jobs(*["good"] * 25)
    drain(delivery)
    assert numbers("do_job") == list(range(1, 26))
    assert not stored()


def test_a_failed_message_is_retried_after_its_delay(delivery: Delivery) -> None:
    """P10."""
    jobs("bad")
    drain(delivery)
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp(), payload = %s",
        '{"number": 1, "mood": "good"}',
    )
    drain(delivery)
    assert [data["attempts"] for data in calls("do_job")] == [1]
    assert not stored()


def test_a_failure_is_logged_with_its_attempt_and_its_listener(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """F55: the line told neither."""
    jobs("bad")
    sql("UPDATE pgpubsub_sql_notification SET attempts = 2")
    drain(delivery)
    assert re.search(
        r"Notification \d+ of channel app\.Job failed and will be retried in \d+\.\d seconds "
        r"\(attempt 3 of 10, listener tests\.app\.listeners\.do_job\)\.$",
        caplog.text,
        re.MULTILINE,
    )


def test_the_tenth_failure_parks_the_message(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    jobs("bad")
    sql("UPDATE pgpubsub_sql_notification SET attempts = 9")
    drain(delivery)
    (row,) = Notification.objects.parked()
    assert row.attempts == 10
    assert "bad mood" in row.last_error
    assert (
        f"Notification {row.pk} of channel app.Job failed and is parked until you run "
        "`manage.py pgpubsub replay` (attempt 10 of 10, listener tests.app.listeners.do_job)."
    ) in caplog.text


def test_waiting_and_parked_messages_are_not_claimed(delivery: Delivery) -> None:
    jobs("good", "good", "good")
    sql("UPDATE pgpubsub_sql_notification SET available_at = NULL WHERE payload->'number' = '1'")
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp() + interval '1 h'"
        " WHERE payload->'number' = '2'"
    )
    drain(delivery)
    assert numbers("do_job") == [3]
    assert sorted(stored()) == [1, 2]


@pytest.mark.parametrize(
    ("payload", "channel", "named"),
    [
        ('{"mood": "good"}', "app.Job", "number"),
        ('{"number": "many"}', "app.Job", "number"),
        ('{"$raw": "no JSON"}', "app.Job", "number"),
        ('{"op": "INSERT", "old": null, "new": {"id": "x"}}', "app.ItemChannel", "id"),
        ('{"op": "WHAT"}', "app.ItemChannel", "WHAT"),
    ],
)
def test_a_message_that_cannot_be_decoded_is_parked_and_the_rest_is_handled(
    delivery: Delivery, payload: str, channel: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19: the error names the channel and the field; the neighbours are handled."""
    sql("SELECT pgpubsub_notify(%s, %s)", channel, payload)
    notify(Job(number=2))
    drain(delivery)
    drain(delivery, ItemChannel)
    assert numbers("do_job") == [2]
    (row,) = Notification.objects.parked()
    assert channel in row.last_error or "app.Item" in row.last_error
    assert named in row.last_error
    assert row.attempts == 1
    assert f"Notification {row.id}" in caplog.text


def test_a_message_that_no_listener_takes_is_said_to_be_discarded(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """M1: it was deleted without a word."""
    before = '{"op": "INSERT", "when": "BEFORE", "old": null, "new": {"id": 1}}'
    sql("SELECT pgpubsub_notify('app.ItemChannel', %s)", before)
    drain(delivery, ItemChannel)
    assert not stored()
    assert (
        "Discarded a message of channel app.ItemChannel: no listener takes the event before_insert"
        in caplog.text
    )


OF_TWO_VERSIONS: dict[Any, tuple[str, str]] = {
    Job: ('{"count": 1}', '{"number": 1}'),
    Step: ('{"account": "a"}', '{"account": "a", "number": 1}'),
    ItemChannel: (
        '{"op": "INSERT", "old": null, "new": {"id": "x"}}',
        '{"op": "INSERT", "old": null, "new": {"id": 1, "name": "", "amount": "1", "data": {}}}',
    ),
}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that cannot be read wait, as they do for users."""
    monkeypatch.setattr(outcomes, "READ_AGAIN_SECONDS", WAITS)


def test_unreadable_messages_wait_about_five_minutes() -> None:
    assert 300 <= sum(WAITS) <= 330
    assert len(WAITS) >= 60  # by chance most of them are by a worker of the wrong version


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("channel", [Job, Step, ItemChannel])
def test_an_unreadable_message_is_handled_by_another_version(
    delivery: Delivery, caplog: pytest.LogCaptureFixture, channel: Any
) -> None:
    """F53: a deploy that changes a field, with workers of both versions; said once, with why."""
    name = channel.postgres_name()
    payload, renamed = OF_TWO_VERSIONS[channel]
    sql("SELECT pgpubsub_notify(%s, %s)", name, payload)
    if channel is Step:
        sql("UPDATE pgpubsub_sql_notification SET key = '[1]'")
    sql("UPDATE pgpubsub_sql_notification SET attempts = 8")
    for times, seconds in enumerate(WAITS, 1):
        drain(delivery, channel)
        (row,) = Notification.objects.waiting()
        assert (row.attempts, row.unreadable) == (8, times)
        assert seconds - 5 < (row.available_at - timezone.now()).total_seconds() <= seconds
        hasten()
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert (
        f"Notification {row.pk} of channel {name} failed and waits 5 seconds for a worker of "
    ) in warnings[0].getMessage()
    assert "attempt" not in warnings[0].getMessage()
    sql("UPDATE pgpubsub_sql_notification SET payload = %s", renamed)  # as this version has it
    drain(delivery, channel)
    assert not stored()


@pytest.mark.usefixtures("patient")
def test_a_message_that_stays_unreadable_is_parked(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """F53."""
    sql("SELECT pgpubsub_notify('app.Job', '{}')")
    sql("UPDATE pgpubsub_sql_notification SET unreadable = %s", len(WAITS))
    drain(delivery)
    (row,) = Notification.objects.parked()
    assert "number" in row.last_error
    assert f"Notification {row.pk} of channel app.Job failed and is parked" in caplog.text
    assert Notification.objects.parked().replay() == 1
    drain(delivery)
    assert [one.unreadable for one in Notification.objects.waiting()] == [1]


@pytest.mark.usefixtures("patient")
def test_an_undecodable_message_is_parked_at_once(delivery: Delivery) -> None:
    """F53: its text is all that could be stored of it."""
    sql("""SELECT pgpubsub_notify('app.Job', '{"$raw": "{}"}')""")
    drain(delivery)
    assert Notification.objects.parked().count() == 1


@pytest.mark.usefixtures("patient")
def test_a_payload_error_in_a_listener_is_an_ordinary_failure(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F53: its message was read, and is retried with a traceback."""
    monkeypatch.setitem(listeners.MOODS, "bad", lambda: notify(Job, nonsense=1))
    jobs("bad")
    drain(delivery)
    (row,) = Notification.objects.waiting()
    assert (row.attempts, row.unreadable) == (1, 0)
    assert "Traceback" in row.last_error
    assert "PayloadError" in caplog.text


@pytest.mark.usefixtures("patient")
def test_an_unreadable_message_blocks_its_key(delivery: Delivery) -> None:
    """F53: a key waits with its first message."""
    for number in (1, 2):
        notify(Step(account="a", number=number))
    sql(
        "UPDATE pgpubsub_sql_notification SET payload = payload - 'number'"
        " WHERE payload->'number' = '1'"
    )
    drain(delivery, Step)
    assert not calls("step")
    sql(
        "UPDATE pgpubsub_sql_notification SET payload = payload || '{\"number\": 1}'"
        " WHERE NOT payload ? 'number'"
    )
    hasten()
    drain(delivery, Step)
    assert [data["number"] for data in calls("step")] == [1, 2]


def test_the_failure_of_one_listener_undoes_the_others(delivery: Delivery) -> None:
    Item.objects.create(name="one", data={"mood": "bad"})
    Item.objects.create(name="two")
    drain(delivery, ItemChannel)
    assert [data["name"] for data in calls("item_inserted")] == ["two"]
    assert [data["name"] for data in calls("item_saved")] == ["two"]


def test_an_error_while_claiming_is_raised_and_charges_no_message(delivery: Delivery) -> None:
    jobs("good")
    sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN key TO yek")
    try:
        with pytest.raises(Exception, match="key"):
            delivery.handle_stored("app.Job")
    finally:
        sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN yek TO key")
    drain(delivery)
    assert numbers("do_job") == [1]


def test_listeners_get_the_context_and_the_notification(delivery: Delivery) -> None:
    sql('SELECT pgpubsub_notify(\'app.Job\', \'{"number": 1, "$context": {"user": "æ"}}\')')
    sql("SELECT pgpubsub_notify('app.Job', '{\"number\": 2, \"$context\": 5}')")
    drain(delivery)
    assert [data["context"] for data in calls("do_job")] == [{"user": "æ"}, {}]
    assert [data["attempts"] for data in calls("do_job")] == [0, 0]


@pytest.mark.parametrize(
    ("retry", "least"),
    [
        (Retry(jitter=0), [10, 30, 90, 270, 810, 2430, 3600, 3600, 3600]),
        (Retry(max_attempts=3, delay=1, factor=1, longest=0.5, jitter=0), [0.5, 0.5]),
        (Retry(max_attempts=1), []),
        (Retry(max_attempts=5000, factor=10, longest=60, jitter=0), [10, *[60] * 4998]),
    ],
)
def test_retry_delays_grow_up_to_the_longest(retry: Retry, least: list[float]) -> None:
    outcomes = [
        after_failure(attempts, ValueError("no"), retry) for attempts in range(retry.max_attempts)
    ]
    assert [one.seconds for one in outcomes if isinstance(one, TryAgain)] == least
    assert isinstance(outcomes[-1], Park)


def test_jitter_spreads_retries() -> None:
    delays = {Retry(delay=100, jitter=0.5).seconds(1) for _ in range(100)}
    assert 100 <= min(delays) < 110
    assert 140 < max(delays) <= 150


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_attempts": 0}, "max_attempts must be at least 1, not 0"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"delay": -1}, "delay must be a number of at least 0, not -1"),
        ({"delay": "10"}, "delay"),
        ({"delay": datetime.timedelta(seconds=1)}, "delay"),
        ({"factor": 0.5}, "factor must be a number of at least 1"),
        ({"longest": float("nan")}, "longest"),
        ({"longest": float("inf")}, "longest"),
        ({"jitter": -0.1}, "jitter"),
    ],
)
def test_an_invalid_retry_policy_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        Retry(**options)


def test_a_channel_has_its_own_retry_policy(delivery: Delivery) -> None:
    """P8: the last attempt parks it, with its traceback."""
    jobs("bad", channel=Twice)
    before = timezone.now()
    drain(delivery, Twice)
    (row,) = stored().values()
    assert row.available_at is not None
    assert 500 <= (row.available_at - before).total_seconds() < 520
    hasten()
    drain(delivery, Twice)
    (row,) = Notification.objects.parked()
    assert row.attempts == 2
    assert "Traceback" in row.last_error


def test_retry_after_sets_the_delay(delivery: Delivery) -> None:
    """It counts, so that it ends."""
    jobs("retry after")
    before = timezone.now()
    drain(delivery)
    (row,) = stored().values()
    assert row.available_at is not None
    assert 999 < (row.available_at - before).total_seconds() < 1020
    assert row.attempts == 1
    assert not calls("do_job")


def test_retry_after_counts_as_an_attempt(delivery: Delivery) -> None:
    jobs("retry after")
    sql("UPDATE pgpubsub_sql_notification SET attempts = 9")
    drain(delivery)
    (row,) = Notification.objects.parked()
    assert row.attempts == 10


@pytest.mark.parametrize("seconds", [-1, "60", None, float("nan"), True])
def test_an_invalid_retry_after_is_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match="RetryAfter wants a number of seconds"):
        RetryAfter(seconds)


def test_discard_deletes_the_message_and_undoes_its_writes(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had written is undone; the log tells why it is gone."""
    caplog.set_level(logging.INFO)
    jobs("good", "discard", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    assert not stored()
    assert (
        "is discarded, as its listener asked "
        "(attempt 1 of 10, listener tests.app.listeners.do_job): it came too late"
    ) in caplog.text


def test_discard_deletes_a_message_that_rolled_back_its_batch(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        listeners.MOODS, "close", lambda: (connection.close(), listeners.MOODS["discard"]())
    )
    jobs("close")
    drain(delivery)
    assert not stored()


@pytest.mark.parametrize("expired", [[], [1], [2, 3], [1, 2, 3, 4]])
def test_expired_messages_are_dropped_and_counted(
    delivery: Delivery, expired: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Also what has expired while it waited to be tried again; what is parked stays."""
    caplog.set_level(logging.INFO)
    jobs("good", "good", "good", "good")
    sql(
        "UPDATE pgpubsub_sql_notification SET expires_at = clock_timestamp()"
        " WHERE (payload->>'number')::int = ANY (%s)",
        expired,
    )
    drain(delivery)
    assert called == [number for number in (1, 2, 3, 4) if number not in expired]
    assert not stored()
    words = f"{len(expired)} notifications of channel app.Job had expired and were dropped"
    assert (words in caplog.text) == bool(expired)


def failures() -> dict[int, tuple[str, bool]]:
    """Return the reason of each stored job, and whether it is dated within its transaction."""
    rows = sql(
        "SELECT (payload->>'number')::int, reason,"
        " failed_at BETWEEN created_at AND clock_timestamp()"
        " FROM pgpubsub_sql_notification"
    )
    return {number: (reason, bool(dated)) for number, reason, dated in rows}


def test_a_failure_leaves_its_reason_and_its_time(delivery: Delivery) -> None:
    jobs("bad", "broken-sql", "good")
    drain(delivery)
    assert failures() == {1: ("RuntimeError", True), 2: ("django.db.utils.ProgrammingError", True)}
    assert Notification.objects.failed().count() == 2


def test_what_rolls_back_its_batch_leaves_them_too(delivery: Delivery) -> None:
    jobs("close")
    drain(delivery)
    ((reason, is_dated),) = failures().values()
    assert (reason.rpartition(".")[2], is_dated) == ("ListenerError", True)


@pytest.mark.usefixtures("patient")
def test_what_cannot_be_read_leaves_them_too(delivery: Delivery) -> None:
    """It waits with no attempt to its account, and has failed nevertheless."""
    sql("SELECT pgpubsub_notify('app.Job', '{}')")
    drain(delivery)
    assert list(failures().values()) == [("pgpubsub_sql.worker.outcomes.Unreadable", True)]
    (row,) = Notification.objects.retrying()
    assert row.attempts == 0


def test_what_was_only_released_keeps_them(delivery: Delivery) -> None:
    """A message that was not reached has not failed again, or at all."""
    moment = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    jobs("good", "good", "good")
    sql(
        "UPDATE pgpubsub_sql_notification SET reason = 'KeyError', failed_at = %s"
        " WHERE payload->'number' = '2'",
        moment,
    )
    delivery.is_stopping = lambda: True
    delivery.handle_stored("app.Job")
    rows = stored()
    assert {number: (row.reason, row.failed_at) for number, row in rows.items()} == {
        2: ("KeyError", moment),
        3: ("", None),
    }


def test_a_reason_has_no_more_characters_than_its_column(delivery: Delivery) -> None:
    error = type("Ä" * 500, (Exception,), {"__module__": "builtins"})
    outcome = after_failure(0, error(), Retry())
    assert isinstance(outcome, TryAgain)
    assert outcome.error.reason == "Ä" * 200
