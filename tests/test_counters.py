"""Counters: each outcome is counted once, the sums are right, and nothing depends on them."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction

from pgpubsub_sql import notify
from pgpubsub_sql.models import Notification
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.own_tables import COUNTED
from pgpubsub_sql.worker import outcomes, sleeping
from pgpubsub_sql.worker import worker as worker_module
from pgpubsub_sql.worker.counters import Counters, Tally
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.recording import Recorder
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemChannel, Job, Shout, Step
from tests.app.models import Entry, Item
from tests.conftest import Listen, eventually
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import listeners_wait, numbers, sql, waiting
from tests.processes.support import workers
from tests.workers import asleep, fall_asleep, hear, poll

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]
Logs = pytest.LogCaptureFixture

DO_JOB, NOBODY = "tests.app.listeners.do_job", ""


@pytest.fixture(autouse=True)
def _from_zero(transactional_db: None) -> None:
    sql("TRUNCATE pgpubsub_sql_counter")


@pytest.fixture(autouse=True)
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a step that finds nothing to do end soon."""
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(sleeping, "POLL_SECONDS", 0.2)


@pytest.fixture
def delivery() -> Delivery:
    return Delivery([Job, Step, Shout, ItemChannel], using="default", schema="public")


@pytest.fixture
def worker() -> Iterator[Worker]:
    with asleep(Job, Step) as worker:
        yield worker


def held(delivery: Delivery) -> dict[str, dict[str, int]]:
    """Return what a delivery has counted and not written, by listener, without zeros."""
    counted: dict[str, dict[str, int]] = {}
    for (_, _, listener), count in delivery.counters._counts.items():
        found = {name: getattr(count, name) for name in COUNTED}
        counted[listener] = {name: number for name, number in found.items() if number}
    return counted


def written(listener: str = DO_JOB) -> dict[str, int]:
    """Return what the table has of a listener, in all minutes."""
    sums = ", ".join(f"sum({name})::integer" for name in COUNTED)
    ((*found,),) = sql(f"SELECT {sums} FROM pgpubsub_sql_counter WHERE listener = %s", listener)
    return {name: number for name, number in zip(COUNTED, found, strict=True) if number}


# --- What is counted


def test_who_handled_how_many(delivery: Delivery) -> None:
    jobs("good", "good", "quiet")
    drain(delivery)
    assert held(delivery) == {DO_JOB: {"handled": 3}}


@pytest.mark.parametrize("mood", ["bad", "dangling", "deadlock", "exit"])
def test_a_failure_is_one_of_its_message_alone(delivery: Delivery, mood: str) -> None:
    """Whether the listener raises, or what it did is refused at the end."""
    jobs("good", mood, "good")
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    assert held(delivery) == {DO_JOB: {"handled": 2, "failed": 1}}


def test_the_last_failure_parks(delivery: Delivery) -> None:
    notify(Step(account=None, number=1, mood="bad"))
    # The server may not have noticed yet that the worker of the test before was killed.
    eventually(lambda: hasten() or drain(delivery, Step) or Notification.objects.parked().exists())
    assert held(delivery) == {"tests.app.listeners.step": {"failed": 2, "parked": 1}}


def test_discarded_and_expired_ones(delivery: Delivery) -> None:
    jobs("discard")
    jobs("good")
    Notification.objects.filter(payload__mood="good").update(expires_at="2000-01-01T00:00:00Z")
    drain(delivery)
    assert held(delivery) == {DO_JOB: {"discarded": 1}, NOBODY: {"expired": 1}}


def test_unreadable_ones_count_for_no_listener(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that another version may read, and one that nobody can."""
    monkeypatch.setattr(outcomes, "READ_AGAIN_SECONDS", (5,))
    Notification.objects.create(channel="app.Job", payload={"other": 1})
    Notification.objects.create(channel="app.Job", payload={"$raw": "{"})
    drain(delivery)
    assert held(delivery) == {NOBODY: {"failed": 1, "parked": 1}}


def test_a_message_that_nobody_wants_is_discarded(delivery: Delivery) -> None:
    payload = {"op": "TRUNCATE", "when": "AFTER", "old": None, "new": None, "context": {}}
    Notification.objects.create(channel="app.ItemChannel", payload=payload)
    drain(delivery, ItemChannel)
    assert held(delivery) == {NOBODY: {"discarded": 1}}


def test_every_listener_of_a_message_counts_it(delivery: Delivery) -> None:
    Item.objects.create(name="one")
    drain(delivery, ItemChannel)
    counted = held(delivery)
    assert len(counted) > 1
    assert {tuple(count.items()) for count in counted.values()} == {(("handled", 1),)}


def test_ephemeral_ones_are_counted_too(delivery: Delivery) -> None:
    bad = '{"number": 2, "mood": "bad"}'
    hear(delivery, "app.Shout", '{"number": 1}', bad, "{", '{"number": 3}')
    counted = held(delivery)
    assert counted["tests.app.listeners.hear"] == {"handled": 2, "failed": 1}
    assert counted["tests.app.listeners.hear_only_number"] == {"handled": 2}
    assert counted[NOBODY] == {"failed": 1}


@pytest.mark.usefixtures("patience")
def test_a_batch_that_is_rolled_back_has_failed(delivery: Delivery) -> None:
    """All of it; what is handled again is counted again."""
    jobs("good", "close", "good")
    drain(delivery)
    assert sorted(numbers("do_job")) == [1, 3]
    count = held(delivery)[DO_JOB]
    assert count["handled"] == 2
    assert count["failed"] == 2 + 1  # once together, and "close" alone


def test_messages_of_a_crashed_worker_count_for_no_listener(delivery: Delivery) -> None:
    jobs("good")
    Notification.objects.update(alone=True)
    worker = connections.create_connection("default")
    worker.set_autocommit(False)
    with worker.cursor() as cursor:
        cursor.execute("DELETE FROM pgpubsub_sql_notification")
    worker.rollback()
    worker.close()
    delivery.handle_stored("app.Job")
    assert held(delivery) == {NOBODY: {"failed": 1}}


def test_seconds_are_those_of_calls() -> None:
    counters, tally = Counters(), Tally("a")
    for _ in range(2):
        tally.messages, tally.seconds = 2, 0.5
        counters.settle("c", "", [tally], [])
    assert (tally.messages, tally.seconds) == (0, 0.0)
    assert counters.values() == {
        "channel": ["c"],
        "subscription": [""],
        "listener": ["a"],
        "handled": [4],
        **{name: [0] for name in COUNTED[1:]},
        "seconds": [1.0],
    }


def test_a_call_takes_time_even_if_it_fails(delivery: Delivery) -> None:
    jobs("bad")
    drain(delivery)
    assert next(iter(delivery.counters._counts.values())).seconds > 0


# --- When and how it is written


def test_an_idle_worker_wakes_to_write(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker._recorder.patience(worker.delivery.counters) == math.inf
    worker._recorder._write_at = math.inf
    jobs("good")
    poll(worker, "app.Job")
    fall_asleep(worker)
    assert not written()
    worker._recorder._write_at = 0.0
    assert worker._patience() == 0.0
    worker.step()
    assert written() == {"handled": 1}
    assert not worker.delivery.counters
    assert worker._recorder._write_at > 0
    assert worker._recorder.patience(worker.delivery.counters) == math.inf


def test_counts_of_one_minute_add_up() -> None:
    """Also those of sessions that share a number, which they all do here."""
    recorder = Recorder()
    delivery = Delivery([Job], using="default")
    for _ in range(3):
        delivery.counters.settle("app.Job", "", [counted(2)], [])
        recorder.write_drained(delivery.counters, delivery.session)
    assert written() == {"handled": 6}
    ((minutes, recent),) = sql(
        "SELECT count(DISTINCT minute), max(minute) > now() - interval '2 min'"
        " FROM pgpubsub_sql_counter WHERE minute = date_trunc('minute', minute)"
    )
    assert minutes in (1, 2)
    assert recent


def counted(messages: int, listener: str = DO_JOB) -> Tally:
    tally = Tally(listener)
    tally.messages, tally.seconds = messages, 0.25
    return tally


def test_workers_write_the_same_rows_at_once() -> None:
    """None waits for another forever, and nothing is lost, whatever order they count in."""
    listeners = [f"listener {number}" for number in range(20)]
    statement = query("count").replace("mod(pg_backend_pid(), 8)", "1")
    errors: list[DatabaseError] = []

    def write(order: int) -> None:
        try:
            for _ in range(20):
                counters = Counters()
                for one in listeners[::order]:
                    counters.settle("app.Job", "", [counted(1, one)], [])
                with connection.cursor() as cursor:
                    cursor.execute(statement, counters.values())
        except DatabaseError as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=[order]) for order in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [written(one) for one in listeners] == [{"handled": 80}] * 20


def past(age: str, *, worker: int = 0, handled: int = 1, parked: int = 0) -> None:
    """Write what a worker counted so long ago."""
    sql(
        "INSERT INTO pgpubsub_sql_counter"
        " (minute, channel, subscription, listener, worker, handled, parked, seconds)"
        " VALUES (now() - %s::interval, 'c', '', %s, %s, %s, %s, 0.5)",
        *(age, DO_JOB, worker, handled, parked),
    )


def test_old_minutes_become_totals_and_totals_stay() -> None:
    for age in ("0", "58 min", "62 min", "20 hours", "70 days"):
        for worker in range(4):
            past(age, worker=worker, parked=2)
    before = written()
    for _ in range(2):
        sql(query("roll_up"))
        assert written() == before == {"handled": 20, "parked": 40}
    rows = sql("SELECT minute::text, worker, handled, seconds FROM pgpubsub_sql_counter")
    assert [row[1:] for row in rows if row[0] == "-infinity"] == [(0, 12, 6.0)]
    assert len(rows) == 9


def test_minutes_that_are_being_moved_are_left_alone() -> None:
    for worker in range(2):
        past("2 hours", worker=worker)
    other = connections.create_connection("default")
    with transaction.atomic(), other.cursor() as cursor:
        sql("SELECT FROM pgpubsub_sql_counter WHERE worker = 0 FOR UPDATE")
        cursor.execute(query("roll_up"))
    other.close()
    assert written() == {"handled": 2}
    assert sql("SELECT count(*) FROM pgpubsub_sql_counter") == [(2,)]
    sql(query("roll_up"))
    assert written() == {"handled": 2}
    assert sql("SELECT count(*) FROM pgpubsub_sql_counter") == [(1,)]


def test_a_worker_rolls_up_now_and_then(worker: Worker) -> None:
    past("2 hours", handled=5)
    for handled in (6, 7):
        worker.delivery.counters.settle("c", "", [counted(1)], [])
        worker._recorder._write_at = 0.0
        worker.step()
        assert written() == {"handled": handled}
        totals = "SELECT worker FROM pgpubsub_sql_counter WHERE minute = '-infinity'"
        assert sql(totals) == [(0,)]
    assert worker._recorder._roll_up_at > worker._recorder._write_at


def test_draining_writes_too() -> None:
    jobs("good", "bad")
    assert not Worker([Job]).drain()
    assert written() == {"handled": 1, "failed": 1}


@pytest.mark.parametrize("way", ["worker", "drain"])
def test_nothing_is_written_if_counting_is_off(settings: Any, way: str) -> None:
    settings.PGPUBSUB_COUNTERS = False
    jobs("good")
    if way == "drain":
        Worker([Job]).drain()
    else:
        with asleep(Job) as worker:
            assert worker._recorder.patience(worker.delivery.counters) == math.inf
            worker.step()
    assert numbers("do_job") == [1]
    assert sql("SELECT count(*) FROM pgpubsub_sql_counter") == [(0,)]


# --- What goes wrong


@contextmanager
def broken(statement: str, repair: str) -> Iterator[None]:
    sql(statement)
    try:
        yield
    finally:
        sql(repair)


BREAKS = {
    "no table": (
        "ALTER TABLE pgpubsub_sql_counter RENAME TO away",
        "ALTER TABLE away RENAME TO pgpubsub_sql_counter",
        r'relation "pgpubsub_sql_counter" does not exist. .*Run migrate; if it has nothing to',
    ),
    "an older table": (
        "ALTER TABLE pgpubsub_sql_counter RENAME seconds TO away",
        "ALTER TABLE pgpubsub_sql_counter RENAME away TO seconds",
        r"seconds.* does not exist. .*Run migrate; if it has nothing to apply, run pgpubsub inst",
    ),
    "a trigger of somebody's": (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON pgpubsub_sql_counter EXECUTE FUNCTION refuse()",
        "DROP FUNCTION refuse CASCADE",
        r"Counters cannot be written: no\. Messages are handled all the same",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
@pytest.mark.parametrize("way", ["worker", "drain"])
def test_what_cannot_be_written_is_said_once_and_hinders_nobody(
    worker: Worker, caplog: Logs, what: str, way: str
) -> None:
    """LISTEN goes on, and the counts are written once that is possible."""
    breaking, repair, words = BREAKS[what]
    pid = worker.doorbell.execute("SELECT pg_backend_pid()")
    draining = Worker([Job])

    def step() -> None:
        jobs("good")
        if way == "drain":
            draining.drain()
        else:
            worker._recorder._write_at = 0.0
            poll(worker, "app.Job")
            worker.step()

    with broken(breaking, repair):
        for _ in range(3):
            step()
    said = [one for one in caplog.messages if one.startswith("Counters cannot be written: ")]
    assert len(said) == 1
    assert re.search(words, said[0])
    assert "PGPUBSUB_COUNTERS = False turns them off." in said[0]
    assert numbers("do_job") == [1, 1, 1]
    step()
    assert written() == {"handled": 4}
    assert worker.doorbell.execute("SELECT pg_backend_pid()") == pid


def test_a_missing_privilege_is_named(worker: Worker, caplog: Logs) -> None:
    """Each is needed, and together they are enough."""
    sql("DROP ROLE IF EXISTS counting")
    with broken("CREATE ROLE counting", "DROP OWNED BY counting; DROP ROLE counting"):
        worker.doorbell.execute("SET ROLE counting")
        worker.delivery.counters.settle("c", "", [counted(1)], [])
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            caplog.clear()
            worker._recorder._write_at, worker._recorder._error = 0.0, ""
            worker.delivery.counters.settle("c", "", [counted(1)], [])
            worker.step()
            assert "Run GRANT SELECT, INSERT, UPDATE, DELETE ON pgpubsub_sql_cou" in caplog.text
            sql(f"GRANT {privilege} ON pgpubsub_sql_counter TO counting")
        worker.delivery.counters.settle("c", "", [counted(1)], [])
        worker._recorder._write_at = worker._recorder._roll_up_at = 0.0
        worker.step()
        worker.doorbell.execute("RESET ROLE")
    assert written() == {"handled": 6}


def test_a_table_that_is_locked_holds_up_nobody_for_long(worker: Worker, caplog: Logs) -> None:
    other = connections.create_connection("default")
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE pgpubsub_sql_counter")
        jobs("good")
        poll(worker, "app.Job")
        worker._recorder._write_at = 0.0
        worker.step()
        assert "canceling statement due to lock timeout" in caplog.text
        assert numbers("do_job") == [1]
    other.close()
    worker._recorder._write_at = 0.0
    worker.step()
    assert written() == {"handled": 1}


def test_a_lost_connection_is_opened_again(worker: Worker, caplog: Logs) -> None:
    """It is no failure of the counters. What may have been written is not written twice."""
    ((pid,),) = worker.doorbell.execute("SELECT pg_backend_pid()")
    worker.delivery.counters.settle("app.Job", "", [counted(1)], [])
    sql("SELECT pg_terminate_backend(%s)", pid)
    eventually(lambda: not sql("SELECT FROM pg_stat_activity WHERE pid = %s", pid))
    worker._recorder._write_at = 0.0
    worker.step()
    assert worker.doorbell.is_open
    assert worker.doorbell.execute("SELECT pg_backend_pid()") != [(pid,)]
    assert "The LISTEN connection is lost" in caplog.text
    assert "Counters" not in caplog.text
    jobs("good")
    poll(worker, "app.Job")
    worker._recorder._write_at = 0.0
    worker.step()
    assert written() == {"handled": 1}


# --- Processes


def test_two_workers_count_every_message_once(listen: Start) -> None:
    """Also what was handled just before they stop."""
    listener = listen("--channels", "app.Job", "--processes", "2").ready(2)
    for _ in range(5):
        jobs(*["good"] * 100, "bad")
    eventually(lambda: Entry.objects.filter(listener="do_job").count() == 500)
    assert listener.stop() == 0
    assert written() == {"handled": 500, "failed": 5}


def test_a_killed_worker_loses_the_counts_of_the_last_seconds_alone(listen: Start) -> None:
    listener = listen("--channels", "app.Job").ready()
    jobs(*["good"] * 50)
    eventually(lambda: written() == {"handled": 50})
    with listeners_wait():
        jobs("good", "wait")
        eventually(waiting)
        os.kill(workers(listener)[0], signal.SIGKILL)
        eventually(lambda: listener.log.count("Listening to") == 2)
    eventually(lambda: not Notification.objects.exists())
    assert listener.stop() == 0
    assert written() == {"handled": 52}
