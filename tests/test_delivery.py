"""What becomes of messages, without a process: one Delivery, called by hand."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.utils import timezone

from pgpubsub_sql import notify
from pgpubsub_sql.models import LongPayload, Notification
from pgpubsub_sql.worker import delivery as delivery_module
from pgpubsub_sql.worker.delivery import LARGEST_BATCH, Delivery
from tests.app.channels import ItemChannel, ItemNews, Job, Shout
from tests.app.models import Item
from tests.ledger import calls, numbers, sql, stored, stranger

pytestmark = pytest.mark.django_db(transaction=True)
CHANNELS = [Job, Shout, ItemChannel, ItemNews]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches end for want of messages, never of time."""
    monkeypatch.setattr(delivery_module, "BATCH_SECONDS", 60.0)


@pytest.fixture
def delivery() -> Delivery:
    return Delivery(CHANNELS, using="default", schema="public")


def drain(delivery: Delivery, channel: type = Job) -> None:
    while delivery.handle_stored(channel.postgres_name()):
        pass


def jobs(*moods: str) -> None:
    """Store a job per mood, in one transaction, numbered from 1."""
    with transaction.atomic():
        for number, mood in enumerate(moods, 1):
            notify(Job(number=number, mood=mood))


def test_what_is_done_is_gone_and_in_order(delivery: Delivery) -> None:
    jobs(*["good"] * 25)
    drain(delivery)
    assert numbers("do_job") == list(range(1, 26))
    assert not stored()


@pytest.mark.parametrize(
    "mood", ["bad", "broken-sql", "dangling", "swallowed", "rollback", "strange", "exit"]
)
def test_a_failure_is_put_back_and_costs_its_neighbours_nothing(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P8, P10: isolated, logged with traceback, channel and id, and tried again in 30 seconds."""
    jobs("good", mood, "good")
    before = timezone.now()
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    (row,) = stored().values()
    assert (row.payload["number"], row.attempts) == (2, 1)
    assert "Traceback" in row.last_error
    assert row.available_at is not None
    delay = row.available_at - before
    assert datetime.timedelta(seconds=29) < delay < datetime.timedelta(seconds=45)
    (record,) = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert record.exc_info
    assert f"Notification {row.id} of channel app.Job failed and will be retried in 30" in (
        record.getMessage()
    )


def test_it_is_tried_again_in_time_with_its_attempts(delivery: Delivery) -> None:
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


def test_the_tenth_failure_parks(delivery: Delivery, caplog: pytest.LogCaptureFixture) -> None:
    jobs("bad")
    sql("UPDATE pgpubsub_sql_notification SET attempts = 9")
    drain(delivery)
    (row,) = Notification.objects.parked()
    assert row.attempts == 10
    assert "bad mood" in row.last_error
    assert "is parked" in caplog.text


def test_what_is_waiting_or_parked_is_left_alone(delivery: Delivery) -> None:
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
def test_what_cannot_be_decoded_is_parked_at_once(
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


def test_the_failure_of_one_listener_undoes_the_others(delivery: Delivery) -> None:
    Item.objects.create(name="one", data={"mood": "bad"})
    Item.objects.create(name="two")
    drain(delivery, ItemChannel)
    assert [data["name"] for data in calls("item_inserted")] == ["two"]
    assert [data["name"] for data in calls("item_saved")] == ["two"]


@pytest.mark.parametrize("mood", ["close", "terminate"])
def test_what_undoes_its_batch_is_found_and_charged(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P12: a listener closes the worker's connection. Neighbours are handled exactly once."""
    jobs("good", mood, "good", mood, "good")
    drain(delivery)
    assert numbers("do_job") == [1, 3, 5]
    assert {row.attempts for row in stored().values()} == {1}
    assert sorted(stored()) == [2, 4]
    assert all("Traceback" in row.last_error for row in stored().values())
    assert not Notification.objects.ready().exists()
    assert "was rolled back; it will be taken again one by one" in caplog.text


def test_a_failure_at_commit_undoes_the_batch_once(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failures = connection.commit, iter([True])

    def failing() -> None:
        if next(failures, False):
            sql("SELECT no_such_column")
        commit()

    jobs("good", "good")
    monkeypatch.setattr(connection, "commit", failing)
    drain(delivery)
    assert numbers("do_job") == [1, 2]
    assert not stored()


def test_a_charge_is_no_ones_if_somebody_else_was_faster(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the rollback and the charge another worker may have handled it, or failed, too."""
    jobs("close")
    charge = delivery._charge

    def late(*arguments: object) -> None:
        sql("UPDATE pgpubsub_sql_notification SET attempts = 5, last_error = 'another'")
        charge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(delivery, "_charge", late)
    delivery.handle_stored("app.Job")
    delivery.handle_stored("app.Job")
    assert [(row.attempts, row.last_error) for row in stored().values()] == [(5, "another")]


def test_what_hinders_taking_is_raised_and_charges_nobody(delivery: Delivery) -> None:
    jobs("good")
    sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN key TO yek")
    try:
        with pytest.raises(Exception, match="key"):
            delivery.handle_stored("app.Job")
    finally:
        sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN yek TO key")
    drain(delivery)
    assert numbers("do_job") == [1]


def test_callbacks_run_after_the_commit_and_fail_alone(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    jobs("good", "call back", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3]
    assert len(calls("called back")) == 1
    assert not stored()
    assert (
        "callback given to transaction.on_commit() by a listener of channel app.Job" in caplog.text
    )
    assert "bad mood" in caplog.text


def test_a_callback_of_an_ephemeral_message_fails_alone(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    delivery.handle_sent("app.Shout", '{"number": 1, "mood": "call back"}')
    assert numbers("hear") == [1]
    assert len(calls("called back")) == 1
    assert "will not be retried" not in caplog.text


def test_what_was_not_reached_is_given_back_and_rung_for(delivery: Delivery) -> None:
    """Another worker hears of it at once, not at its next safety look."""
    jobs(*["good"] * 5)
    before = {number: (row.id, row.available_at, row.attempts) for number, row in stored().items()}
    delivery.stopping = lambda: len(calls("do_job")) == 2
    with stranger() as other:
        other.execute('LISTEN "app.Job"')
        delivery.handle_stored("app.Job")
        assert numbers("do_job") == [1, 2]
        other.execute("SELECT 1")
        after = {n: (row.id, row.available_at, row.attempts) for n, row in stored().items()}
        assert after == {n: before[n] for n in (3, 4, 5)}
        assert heard_by(other.connection) == ["app.Job"]


def heard_by(raw: object) -> list[str]:
    """Return the channels of what a driver's connection has heard."""
    if hasattr(raw, "poll"):
        raw.poll()
        return [notify.channel for notify in raw.notifies]
    return [notify.channel for notify in raw.notifies(timeout=0)]  # type: ignore[attr-defined]


def test_a_batch_ends_when_its_time_is_over(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "BATCH_SECONDS", 0.0)
    jobs(*["good"] * 5)
    assert delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1]
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3, 4, 5]


def test_batches_grow_while_handling_is_quick(delivery: Delivery) -> None:
    jobs(*["good"] * 40)
    sizes = []
    while delivery.handle_stored("app.Job"):
        sizes.append(len(calls("do_job")) - sum(sizes))
    assert sizes == [10, 20]
    assert LARGEST_BATCH > 20


def test_a_short_batch_does_not_shrink_the_next(delivery: Delivery) -> None:
    delivery.handle_stored("app.Job")
    jobs(*["good"] * 8)
    delivery.handle_stored("app.Job")
    assert len(numbers("do_job")) == 8


@pytest.fixture
def impatience() -> Iterator[None]:
    """Waiting for a lock is an error: nothing interrupts a driver that waits."""
    sql("SET lock_timeout = '5s'")
    yield
    sql("RESET lock_timeout")


@pytest.mark.usefixtures("impatience")
def test_rows_in_other_hands_are_passed_over(delivery: Delivery) -> None:
    jobs("good", "good", "good")
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("DELETE FROM pgpubsub_sql_notification WHERE payload->'number' = '1'")
        drain(delivery)
        assert numbers("do_job") == [2, 3]
        other.execute("ROLLBACK")
    drain(delivery)
    assert numbers("do_job") == [2, 3, 1]


@pytest.mark.usefixtures("impatience")
def test_planning_finds_what_waits_behind_rows_in_other_hands(delivery: Delivery) -> None:
    jobs("good", "good")
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp() + interval '1 h'"
        " WHERE payload->'number' = '2'"
    )
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM pgpubsub_sql_notification ORDER BY id LIMIT 1 FOR UPDATE")
        assert not delivery.handle_stored("app.Job")
        assert delivery.next_ready()["app.Job"] <= 0  # it came since: look once more
        assert not delivery.handle_stored("app.Job")
        assert 3500 < delivery.next_ready()["app.Job"] <= 3600  # and only once


def test_planning_sees_what_became_ready_between_look_and_plan(delivery: Delivery) -> None:
    delivery.next_ready()
    assert not delivery.handle_stored("app.Job")
    jobs("good")
    assert delivery.next_ready()["app.Job"] <= 0
    drain(delivery)
    assert numbers("do_job") == [1]
    assert delivery.next_ready() == {}


def test_sweeping_takes_only_what_has_expired(delivery: Delivery) -> None:
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
def test_garbage_is_logged_with_its_channel(
    delivery: Delivery, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19."""
    delivery.handle_sent("app.Shout", payload)
    assert "app.Shout was dropped" in caplog.text
    delivery.handle_sent("app.Shout", '{"number": 1}')
    assert numbers("hear") == [1]


@pytest.mark.parametrize("reference", ["-1", '"1"', "[]", "1e400", "9" * 30, "true", "1.5"])
def test_a_reference_to_nothing_is_dropped(
    delivery: Delivery, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19."""
    delivery.handle_sent("app.Shout", f'{{"number": 1, "$ref": {reference}}}')
    assert "A message on channel app.Shout" in caplog.text
    assert not numbers("hear")


def test_a_message_of_a_foreign_schema_is_not_ours(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    delivery.handle_sent("app.Shout", '{"number": 1, "$schema": "tenant"}')
    delivery.handle_sent("app.Shout", '{"number": 2, "$schema": "public"}')
    assert numbers("hear") == [2]
    assert not caplog.records


@pytest.mark.parametrize("mood", ["bad", "broken-sql", "dangling", "close", "terminate", "exit"])
def test_an_ephemeral_failure_ends_its_message_only(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P8, P12."""
    for number, one in enumerate(["good", mood, "good"], 1):
        delivery.handle_sent("app.Shout", f'{{"number": {number}, "mood": "{one}"}}')
    assert numbers("hear") == [1, 3]
    assert numbers("hear_only_number") == [1, 3]
    assert "channel app.Shout failed; it will not be retried" in caplog.text
    assert "Traceback" in caplog.text


def test_async_listeners_join_the_transaction(delivery: Delivery) -> None:
    delivery.handle_sent("app.Shout", '{"number": 1, "mood": "async"}')
    assert numbers("hear_async") == [1]


def test_listeners_get_the_context_and_the_notification(delivery: Delivery) -> None:
    sql('SELECT pgpubsub_notify(\'app.Job\', \'{"number": 1, "$context": {"user": "æ"}}\')')
    sql("SELECT pgpubsub_notify('app.Job', '{\"number\": 2, \"$context\": 5}')")
    drain(delivery)
    assert [data["context"] for data in calls("do_job")] == [{"user": "æ"}, {}]
    assert [data["attempts"] for data in calls("do_job")] == [0, 0]
