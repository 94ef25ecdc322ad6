"""What is told by signals and in log records, and that reporting harms nobody."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.dispatch import Signal

from pgpubsub_sql import Discard, Notification, RetryAfter, signals
from pgpubsub_sql.errors import PayloadError, WorkerDied
from pgpubsub_sql.worker import attempts, reporting
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.isolation import Isolation
from pgpubsub_sql.worker.worker import Worker
from tests.app import listeners
from tests.app.channels import Job, Shout
from tests.app.models import Entry
from tests.delivery.sending import drain, jobs
from tests.ledger import numbers, sql, stored, stranger
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)

ALL = {name: value for name, value in vars(signals).items() if isinstance(value, Signal)}
DO_JOB = "tests.app.listeners.do_job"


@pytest.fixture
def delivery() -> Delivery:
    return Delivery([Job, Shout], using="default", schema="public")


@pytest.fixture
def connect() -> Iterator[Callable[..., None]]:
    """Connect a receiver; it is disconnected at the end."""
    connected: list[tuple[Signal, Any, Any]] = []

    def connect(signal: Signal, receiver: Any, sender: Any = None) -> None:
        connected.append((signal, receiver, sender))
        signal.connect(receiver, sender=sender, weak=False)

    yield connect
    for signal, receiver, sender in connected:
        assert signal.disconnect(receiver, sender=sender)


@pytest.fixture
def told(connect: Callable[..., None]) -> list[tuple[str, dict[str, Any]]]:
    """Everything that is told, with the arguments."""
    told: list[tuple[str, dict[str, Any]]] = []

    def tell(name: str) -> Callable[..., None]:
        return lambda **arguments: told.append((name, arguments))

    for name, signal in ALL.items():
        connect(signal, tell(name))
    return told


def names(told: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _ in told]


# --- What is told of a message


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
        ("message_failed", first + 1),
        ("message_succeeded", first + 2),
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


class Death(BaseException):
    """What nobody catches."""


def die() -> None:
    raise Death


def die_of(*attempts: int) -> None:
    """Have workers die of jobs that had failed so often, each alone; account for them."""
    jobs(*["die"] * len(attempts))
    for number, count in enumerate(attempts, 1):
        found = Notification.objects.filter(payload__number=number)
        found.update(attempts=count, alone=True)
    for _ in attempts:
        with pytest.raises(Death):
            drain(Delivery([Job], using="default"))
    drain(Delivery([Job], using="default"))


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


# --- Receivers that do harm


def fail(**arguments: Any) -> None:
    raise RuntimeError("this receiver is in a bad mood")


def leave(**arguments: Any) -> None:
    sys.exit(3)


def write_and_fail(**arguments: Any) -> None:
    Entry.objects.create(listener="receiver", data={})
    with connection.cursor() as cursor:
        cursor.execute("SELECT no_such_column")


@pytest.mark.parametrize("receiver", [fail, leave, write_and_fail])
def test_an_error_in_a_receiver_has_no_effect(
    delivery: Delivery,
    connect: Callable[..., None],
    receiver: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, signal in ALL.items():
        if name.startswith("message"):
            connect(signal, receiver)
    jobs("good", "bad", "good", "close", "good")
    sql("SELECT pgpubsub_notify('app.Job', '{}')")
    drain(delivery)
    hear(delivery, "app.Shout", '{"number": 1}')
    hear(delivery, "app.Shout", '{"number": 2, "mood": "bad"}')
    assert sorted(numbers("do_job")) == [1, 3, 5]
    assert numbers("hear") == [1]
    assert {row.attempts for row in stored().values()} == {1}
    assert Notification.objects.parked().count() == 1
    assert "receiver" in caplog.text


def test_writes_of_a_receiver_outlast_a_failed_message(
    delivery: Delivery, connect: Callable[..., None]
) -> None:
    """Within the batch it stays, though the message fails; afterwards it is a transaction's."""

    def write(signal: Signal, **arguments: Any) -> None:
        Entry.objects.create(listener="receiver", data={})
        assert connection.in_atomic_block == (signal is signals.message_received)

    connect(signals.message_received, write)
    connect(signals.message_failed, write)
    jobs("bad")
    delivery.handle_stored("app.Job")
    assert Entry.objects.filter(listener="receiver").count() == 2


def test_a_receiver_that_breaks_the_transaction_is_undone_and_logged(
    delivery: Delivery, connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def mark(**arguments: Any) -> None:
        transaction.set_rollback(True)

    connect(signals.message_received, mark)
    jobs("good")
    drain(delivery)
    assert numbers("do_job") == [1]
    assert "Receivers of message_received failed for a message of channel app.Job" in caplog.text
    assert extras(caplog.records[0])["channel"] == "app.Job"
    assert extras(caplog.records[0])["attempt"] == 1


def test_a_rollback_by_a_receiver_is_not_blamed_on_a_listener(
    delivery: Delivery, connect: Callable[..., None], told: list[Any]
) -> None:
    """Nor that of the one which the message before it has come to."""
    jobs("good")
    drain(delivery)
    connect(signals.message_received, lambda **_: connection.close())
    jobs("good")
    delivery.handle_stored("app.Job")
    assert names(told)[-1] == "message_failed"
    assert told[-1][1]["listener"] == ""


def test_without_receivers_nothing_is_prepared_for_them(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is made to be told."""

    def never(*arguments: Any, **named: Any) -> None:
        raise AssertionError

    runs: list[Any] = []
    run = Isolation.run
    monkeypatch.setattr(reporting, "send", never)
    monkeypatch.setattr(attempts, "notification", never)
    monkeypatch.setattr(Isolation, "run", lambda *args: runs.append(args) or run(*args))
    sql("SELECT pgpubsub_notify('app.Shout', '{\"number\": 1}')")
    drain(delivery, Shout)
    assert numbers("hear_only_number") == [1]
    assert len(runs) == 1


# --- Workers


def test_workers_send_signals_when_they_start_and_stop(told: list[Any]) -> None:
    Worker([Job, Shout]).drain()
    assert names(told) == ["worker_started", "worker_stopped"]
    for _, arguments in told:
        assert arguments["sender"] is Worker
        assert arguments["using"] == "default"
        assert arguments["channels"] == [Job, Shout]


def test_worker_stopped_is_sent_whatever_the_reason(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker([Job])

    def broken() -> None:
        raise DatabaseError("out of order")

    monkeypatch.setattr(worker, "_connect", broken)
    with pytest.raises(DatabaseError):
        worker.run()
    assert names(told) == ["worker_started", "worker_stopped"]


def test_worker_reconnected_is_sent(told: list[Any]) -> None:
    """P9."""
    worker = Worker([Job])
    with worker.shutdown:
        worker._connect()
        raw = worker.doorbell._connection
        sql("SELECT pg_terminate_backend(%s)", raw.info.backend_pid)
        while worker.doorbell._connection is raw:
            worker.step()
        worker.doorbell.close()
    assert names(told) == ["worker_reconnected"]
    assert told[0][1]["channels"] == [Job]


# --- Log records


KEYS = ("channel", "notification_id", "attempt", "listener", "duration")


def extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: vars(record)[key] for key in KEYS}


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
