"""Paused channels: nobody takes their messages, nobody loses sleep over them, and all resume."""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from pgpubsub_sql import notify
from pgpubsub_sql.inspection import paused_lanes
from pgpubsub_sql.management.subcommands import pausing
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.sleeping import POLL_SECONDS, SleepState
from pgpubsub_sql.worker.worker import AT_ONCE, Worker
from tests.app.channels import Job, Shout, Step
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, numbers, sql, waiting
from tests.management.support import run, run_json
from tests.stored import HOUR, NAME, in_flight, store
from tests.workers import asleep, fall_asleep

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]
Logs = pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def nothing_is_paused() -> Iterator[None]:
    """The table is part of what is installed: no flush empties it."""
    yield
    sql("UPDATE pgpubsub_sql_subscription SET paused_at = NULL")
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = 'app.Former'")


@pytest.fixture
def delivery() -> Delivery:
    return Delivery([Job, Step], using="default", schema="public")


@pytest.fixture
def worker() -> Iterator[Worker]:
    with asleep(Job, Step) as worker:
        yield worker


def handle(delivery: Delivery, name: str) -> None:
    while delivery.handle_stored(name):
        pass


def test_nothing_of_a_paused_channel_is_taken(delivery: Delivery) -> None:
    """Neither together nor alone, with a key or without."""
    jobs("good", "good")
    Notification.objects.filter(payload__number=2).update(alone=True)
    for account in ("a", None):
        notify(Step(account=account, number=3))
    for name in ("app.Job", "app.Step"):
        run("pause", name)
        handle(delivery, name)
        lane = Lane(name)
        assert delivery.look({lane: True})[lane] == math.inf
        assert delivery.next_ready().keys() == ({Lane("app.Step")} if name == "app.Job" else set())
    assert delivery.paused == {Lane("app.Job"), Lane("app.Step")}
    assert not numbers("do_job")
    assert Notification.objects.count() == 4
    run("resume", "app.Job", "app.Step")
    for name in ("app.Job", "app.Step"):
        assert delivery.look({Lane(name): True})[Lane(name)] <= 0
        handle(delivery, name)
    assert sorted(numbers("do_job")) == [1, 2]
    assert not Notification.objects.exists()


def test_the_others_go_on(delivery: Delivery) -> None:
    run("pause", "app.Step")
    jobs("good")
    handle(delivery, "app.Job")
    assert numbers("do_job") == [1]


def test_the_pause_is_looked_up_once_a_claim(delivery: Delivery) -> None:
    """However many messages wait."""
    jobs(*["good"] * 20)
    text = delivery._states[Lane("app.Job")].claims._take.text  # type: ignore[attr-defined]
    values = {**Lane("app.Job")._asdict(), "keyless": False, "limit": 20, "bytes": 10**6}
    with connection.cursor() as cursor:
        cursor.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {text}",
            {**values, "after": "-infinity", "after_id": 0},
        )
        ((((plan,),),)) = ((row[0],) for row in cursor.fetchall())
    assert [one["Actual Loops"] for one in nodes(plan["Plan"], "pgpubsub_sql_subscription")] == [1]


def nodes(plan: Any, relation: str) -> Iterator[Any]:
    if plan.get("Relation Name") == relation:
        yield plan
    for one in plan.get("Plans", []):
        yield from nodes(one, relation)


# --- Workers


def test_a_paused_channel_neither_keeps_a_worker_awake_nor_has_writers_notify(
    worker: Worker, caplog: Logs
) -> None:
    run("pause", "app.Job")
    with caplog.at_level("INFO", logger="pgpubsub_sql.worker"):
        jobs("good")  # whose writer finds that somebody sleeps
        eventually(lambda: worker._receive() or worker._sleeper.is_awake)
        fall_asleep(worker)
    assert caplog.messages == [
        "Channel app.Job is paused: its messages wait until somebody runs pgpubsub resume"
    ]
    assert worker._sleeper._states[Lane("app.Job")] is SleepState.PAUSED
    worker._poll_at[Lane("app.Step")] = AT_ONCE  # so that it does not wait for its next poll
    worker._receive()
    assert worker._sleeper._held == {worker._sleeper._buckets[Lane("app.Step")]}
    jobs("good")
    worker._read()
    assert not worker._sleeper.is_awake
    assert not numbers("do_job")


def test_resuming_wakes_the_workers(worker: Worker, caplog: Logs) -> None:
    run("pause", "app.Job")
    worker._poll()
    worker._has_looked_ahead = False
    worker._look_ahead()
    assert worker._sleeper._states[Lane("app.Job")] is SleepState.PAUSED
    assert worker._patience() > POLL_SECONDS / 2
    jobs("good")
    run("resume", "app.Job")
    worker._receive()
    assert worker._sleeper._states[Lane("app.Job")] is SleepState.AWAKE
    with caplog.at_level("INFO", logger="pgpubsub_sql.worker"):
        fall_asleep(worker)
    assert numbers("do_job") == [1]
    assert "Channel app.Job is no longer paused" in caplog.messages


def test_a_channel_is_resumed_even_if_no_notify_comes(worker: Worker) -> None:
    """It is polled now and then, like any other."""
    run("pause", "app.Job")
    worker._has_looked_ahead = False
    worker._look_ahead()
    jobs("good")
    sql("UPDATE pgpubsub_sql_subscription SET paused_at = NULL")
    worker._poll_at[Lane("app.Job")] = 0.0
    worker._poll()
    assert numbers("do_job") == [1]
    assert worker._sleeper._states[Lane("app.Job")] is SleepState.AWAKE


def test_draining_says_what_is_paused(caplog: Logs) -> None:
    run("pause", "app.Job")
    jobs("good")
    with caplog.at_level("INFO", logger="pgpubsub_sql.worker"):
        assert Worker([Job, Step]).drain()
    assert any(line.startswith("Channel app.Job is paused: ") for line in caplog.messages)
    assert Notification.objects.count() == 1


# --- The commands


def test_pausing_waits_for_what_is_in_flight(listen: Start) -> None:
    listen("--channels", "app.Job", "app.Step", "--processes", "2").ready(2)
    told, done = io.StringIO(), threading.Event()

    def pause() -> None:
        call_command("pgpubsub", "pause", "app.Job", stdout=io.StringIO(), stderr=told)
        done.set()
        connections.close_all()

    with listeners_wait():
        jobs("wait")
        eventually(waiting)
        thread = threading.Thread(target=pause)
        thread.start()
        eventually(told.getvalue)
        jobs("good")
        assert not done.is_set()
        run("pause", "app.Step")  # has nothing in flight
        run("pause", "app.Job", "--no-wait")
    thread.join(30)
    assert done.is_set()
    assert re.match(
        r"Waiting for messages that are in flight in 1 session of the server \(\d+\)\. Ctrl-C",
        told.getvalue(),
    )
    assert numbers("do_job") == [1]
    run("resume", "app.Job")
    eventually(lambda: len(numbers("do_job")) == 2)


def test_pausing_waits_for_a_claim_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take messages that it has seen before the pause."""
    until: list[str] = []

    def wait(seconds: float) -> None:
        until.append(str(seconds))
        claiming.cancel()

    monkeypatch.setattr(pausing, "time", SimpleNamespace(sleep=wait))
    claiming = connection.Database.connect(**connection.get_connection_params())
    statement = "SELECT pg_sleep(60) FROM pgpubsub_sql_notification FOR UPDATE"

    def claim() -> None:
        with pytest.raises(connection.Database.Error):
            claiming.cursor().execute(statement)

    store()
    thread = threading.Thread(target=claim)
    thread.start()
    eventually(
        lambda: sql(
            "SELECT pid FROM pg_stat_activity WHERE query = %s AND state = 'active'", statement
        )
    )
    run("pause", NAME)
    thread.join(30)
    claiming.close()
    assert until == [str(pausing.LOOK_SECONDS)] * len(until) != []


def test_pausing_does_not_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for other channels, nor for what was taken after the pause, by its id for example."""
    waits = SimpleNamespace(sleep=lambda seconds: pytest.fail("it waits"))
    monkeypatch.setattr(pausing, "time", waits)
    other = store(channel="app.Step")
    with in_flight(other.pk):
        run("pause", NAME)
    run("pause", NAME)
    assert paused_lanes("default").keys() == {Lane(NAME)}


def test_what_is_done_is_printed() -> None:
    assert run("pause", NAME).splitlines() == [
        f"{NAME}: paused",
        f"To go on: python manage.py pgpubsub resume {NAME}",
    ]
    assert run_json("pause", NAME, "app.Step") == [
        {"channel": NAME, "done": "paused"},
        {"channel": "app.Step", "done": "paused"},
    ]
    assert run("resume", "tests.app.channels.Step") == "app.Step: resumed\n"
    assert run_json("resume", NAME, "app.Step") == [
        {"channel": NAME, "done": "resumed"},
        {"channel": "app.Step", "done": "not paused"},
    ]
    assert not paused_lanes("default")


def test_a_channel_that_is_no_longer_declared_can_be_resumed() -> None:
    sql("INSERT INTO pgpubsub_sql_subscription VALUES ('app.Former', '', now(), now())")
    assert run("resume", "app.Former") == "app.Former: resumed\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["pause", Shout.postgres_name()], r"app\.Shout cannot be paused: .*run the workers with"),
        (["pause", "app.Jobb"], r"Did you mean 'app\.Job'\?"),
        (["resume", "app.Jobb"], r"Did you mean 'app\.Job'\?"),
        (["pause"], "required: CHANNEL"),
    ],
)
def test_mistakes_are_explained(argv: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run(*argv)
    assert not paused_lanes("default")


def test_status_shows_what_is_paused_and_does_not_call_it_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(available_at=Notification.objects.create(channel=NAME, payload={}).created_at - HOUR)
    run("pause", NAME)
    told = f"{NAME} has been paused for 0:00:00. To go on: python manage.py pgpubsub resume {NAME}"
    assert told in run("status").splitlines()
    found = run_json("status", NAME)
    assert 0 <= found["channels"][0]["paused_seconds"] < 60
    assert not [one for one in found["problems"] if "has been due for" in one]
    run("resume", NAME)
    found = run_json("status", NAME)
    assert found["channels"][0]["paused_seconds"] is None
    assert [one for one in found["problems"] if "has been due for" in one]
