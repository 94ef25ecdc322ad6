"""A worker that sleeps is woken by NOTIFY; for one that is awake, nobody notifies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from django.db import connection

from pgpubsub_sql import notify, notify_many
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import claims, sleeping
from pgpubsub_sql.worker.sleeping import POLL_SECONDS, SleepState
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job, Shout, Step
from tests.app.models import Entry
from tests.conftest import eventually
from tests.workers import asleep, connected, fall_asleep, poll

TAKE_S = "SELECT pg_advisory_lock(1346850899, pgpubsub_bucket_v1('app.Job'))"

pytestmark = pytest.mark.django_db(transaction=True)


def connect() -> Any:
    return psycopg2.connect(dbname=connection.settings_dict["NAME"])


@pytest.fixture
def heard() -> Iterator[Callable[[], int]]:
    """Return how many NOTIFYs of app.Job have come since the last time."""
    listening = connect()
    listening.autocommit = True
    cursor = listening.cursor()
    cursor.execute('LISTEN "app.Job"')

    def count() -> int:
        cursor.execute("SELECT 1")  # which reads all that has come before
        found = len(listening.notifies)
        listening.notifies.clear()
        return found

    yield count
    listening.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with connected(Job, Shout) as worker:
        yield worker


def handled() -> int:
    return Entry.objects.filter(listener="do_job").count()


def work(worker: Worker, count: int) -> None:
    """Let the worker go on until so many messages are handled."""
    eventually(lambda: worker.step() or handled() >= count)


@pytest.mark.usefixtures("patience")  # a worker that releases messages notifies the others
def test_only_a_worker_that_sleeps_is_notified(
    worker: Worker, heard: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sleeping, "LINGER_SECONDS", 60.0)
    worker._sleeper.wake(Lane("app.Job"))
    notify(Job(1))
    notify_many([Job(2), Job(3)])
    assert heard() == 0
    work(worker, 3)
    monkeypatch.setattr(sleeping, "LINGER_SECONDS", 0.0)
    worker._sleeper.wake(Lane("app.Job"))
    fall_asleep(worker)
    notify(Job(4))
    assert heard() == 1
    work(worker, 4)
    monkeypatch.setattr(sleeping, "LINGER_SECONDS", 60.0)
    worker._sleeper.wake(Lane("app.Job"))
    worker._receive()  # lets writers know
    notify(Job(5))
    assert heard() == 0
    work(worker, 5)


def test_nobody_is_notified_where_no_worker_listens(heard: Callable[[], int]) -> None:
    notify(Job(1))
    assert heard() == 0


def test_a_message_of_a_long_transaction_is_handled_once_it_is_committed(worker: Worker) -> None:
    def state() -> SleepState:
        worker.step()
        return worker._sleeper._states[Lane("app.Job")]

    with closing(connect()) as writing, writing.cursor() as cursor:
        cursor.execute("""SELECT pgpubsub_notify('app.Job', '{"kwargs": {"number": 1}}')""")
        eventually(lambda: state() is SleepState.DROWSY)
        for _ in range(20):
            assert state() is not SleepState.ASLEEP
        writing.commit()
        work(worker, 1)
        fall_asleep(worker)


def test_a_transaction_takes_few_locks_however_many_channels_it_writes_to() -> None:
    """The server's lock table is one for all, and users' writes fail when it is full."""
    with connect() as writing, writing.cursor() as cursor:
        cursor.execute(
            "SELECT count(pgpubsub_notify('channel ' || number, '{}'))"
            "FROM generate_series(1, 10000) AS number"
        )
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert cursor.fetchone() == (64,)
        writing.rollback()
    writing.close()


def test_a_quiet_transaction_can_be_prepared(heard: Callable[[], int], worker: Worker) -> None:
    """Two-phase commit, which PostgreSQL refuses to transactions that notify."""
    worker._receive()
    with closing(connect()) as writing, writing.cursor() as cursor:
        cursor.execute("""SELECT pgpubsub_notify('app.Job', '{"kwargs": {"number": 1}}')""")
        cursor.execute("PREPARE TRANSACTION 'quiet'")
        writing.commit()
        writing.autocommit = True
        worker.step()
        cursor.execute("COMMIT PREPARED 'quiet'")
    work(worker, 1)
    assert heard() == 0


def test_a_transaction_that_is_prepared_keeps_a_worker_from_sleeping(worker: Worker) -> None:
    """It has not notified, as the worker was awake; so the worker waits for its end."""
    worker._receive()
    with closing(connect()) as writing, writing.cursor() as cursor:
        cursor.execute("""SELECT pgpubsub_notify('app.Job', '{"kwargs": {"number": 1}}')""")
        cursor.execute("PREPARE TRANSACTION 'pending'")
        writing.commit()
        writing.autocommit = True
        try:
            for _ in range(50):
                worker.step()
                assert worker._sleeper._states[Lane("app.Job")] is not SleepState.ASLEEP
        finally:
            cursor.execute("COMMIT PREPARED 'pending'")
    work(worker, 1)
    fall_asleep(worker)


def test_a_transaction_that_has_notified_cannot_be_prepared() -> None:
    """PostgreSQL refuses it; the documentation says how to avoid that."""
    with asleep(Job), closing(connect()) as writing, writing.cursor() as cursor:
        cursor.execute("""SELECT pgpubsub_notify('app.Job', '{"kwargs": {"number": 1}}')""")
        with pytest.raises(psycopg2.errors.FeatureNotSupported, match="cannot PREPARE"):
            cursor.execute("PREPARE TRANSACTION 'loud'")


def test_a_transaction_of_ten_thousand_statements_on_a_thousand_channels_wakes_a_worker(
    heard: Callable[[], int],
) -> None:
    """It takes no more locks than there are buckets, and PostgreSQL merges its notifications."""
    with asleep(Job) as worker, closing(connect()) as writing, writing.cursor() as cursor:
        cursor.execute(
            """
            DO $$ BEGIN
                FOR number IN 1 .. 10000 LOOP
                    PERFORM pgpubsub_notify('channel ' || number % 1000, '{}');
                    IF number % 100 = 0 THEN
                        PERFORM pgpubsub_notify('app.Job', jsonb_build_object('number', number));
                    END IF;
                END LOOP;
            END $$
            """
        )
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
        assert cursor.fetchone()[0] <= 64
        writing.commit()
        assert heard() == 1
        work(worker, 100)


def test_a_channel_that_sleeps_is_woken_beside_one_that_is_busy() -> None:
    """It goes on sleeping, whatever comes on the other one."""
    with asleep(Job, Step) as worker:
        states = worker._sleeper._states
        for number in range(20):
            notify(Job(number))
            worker.step()
            assert states[Lane("app.Step")] is SleepState.ASLEEP
        notify(Step(account="a", number=1))
        eventually(lambda: worker.step() or Entry.objects.filter(listener="step").exists())


def test_a_channel_whose_lock_is_taken_is_polled_and_that_is_logged_once(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else uses the same advisory lock, or the server's lock table is full."""
    holding = connect()
    with holding.cursor() as cursor:
        cursor.execute(TAKE_S)
        steps = 0
        while "it cannot sleep" not in caplog.text:
            worker.step()  # a step that waits ten seconds for the next poll makes this too long
            steps += 1
        assert steps >= sleeping.REFUSALS
        due = worker._sleeper.fall_asleep(worker.doorbell.execute)
        assert due[Lane("app.Job")] <= sleeping.SLEEPLESS_SECONDS
        notify(Job(1))
        work(worker, 1)
        for _ in range(5):
            worker.step()
    assert caplog.text.count("it cannot sleep") == 1
    holding.close()
    fall_asleep(worker)


def test_a_lock_that_a_writer_tests_just_now_is_tried_again(worker: Worker) -> None:
    holding = connect()
    with holding.cursor() as cursor:
        cursor.execute(TAKE_S)
        poll(worker)
        worker._sleeper._awake_until[Lane("app.Job")] = 0.0
        poll(worker, "app.Job")
        worker._receive()
        assert worker._poll_at[Lane("app.Job")] - time.monotonic() <= sleeping.AWAKE_SECONDS
    holding.close()
    fall_asleep(worker)


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("channels", [[Job], [Step], [Job, Step]], ids=["any order", "key", "both"])
def test_a_worker_without_messages_falls_asleep(
    channels: list[Any], is_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round over the keys that was not the last kept it awake, as did a slow server."""
    if is_slow:  # each search takes more than a second, as it counts here
        monkeypatch.setattr(claims, "QUICK_SECONDS", -1.0)
    with asleep(*channels) as worker:
        assert not worker._sleeper.is_awake
        assert worker._patience() > POLL_SECONDS / 2
