"""Channels without NOTIFY: workers poll them, and writers touch neither NOTIFY nor the locks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from pgpubsub_sql import Channel, channels, notify, notify_many
from pgpubsub_sql.channels import notified_names
from pgpubsub_sql.migrations_ops.maintenance import follow_declarations
from pgpubsub_sql.migrations_ops.shared_faults import find_faults
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import sleeping
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.sleeping import AWAKE_SECONDS, LINGER_SECONDS, POLL_SECONDS, Sleeper
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemChannel, Job, Shout, Step
from tests.app.models import Item
from tests.conftest import eventually
from tests.ledger import numbers, sql, stranger
from tests.workers import asleep, fall_asleep

pytestmark = pytest.mark.django_db(transaction=True)

SOMEBODY_SLEEPS = (
    "SELECT pg_advisory_lock_shared(1346850899, bucket) FROM generate_series(0, 63) AS bucket"
)
ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"


@pytest.fixture
def polled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have two durable channels without NOTIFY, as after migrate."""
    with monkeypatch.context() as patch:
        for channel in (Job, ItemChannel):
            patch.setattr(channel, "notify", False)
        follow_declarations("default")
        yield
    follow_declarations("default")


@pytest.fixture
def other() -> Iterator[Any]:
    """A session that sleeps on every channel: whoever asks the doorbell's locks notifies."""
    with stranger() as cursor:
        cursor.execute('LISTEN "app.Job"; LISTEN "app.ItemChannel"; LISTEN "app.Step"')
        cursor.execute(SOMEBODY_SLEEPS)
        yield cursor


def heard(cursor: Any) -> list[str]:
    """Return the channels of the NOTIFYs that a session has received."""
    cursor.execute("SELECT 1")
    raw = cursor.connection
    if hasattr(raw, "notifies") and isinstance(raw.notifies, list):
        found = [one.channel for one in raw.notifies]
        raw.notifies.clear()
        return found
    return [one.channel for one in raw.notifies(timeout=0)]


WAYS: dict[str, Callable[[], object]] = {
    "notify()": lambda: notify(Job(1)),
    "notify_many()": lambda: notify_many([Job(1), Job(2)]),
    "a trigger": lambda: Item.objects.create(name="new"),
    "SQL": lambda: sql("SELECT pgpubsub_notify('app.Job', '{\"number\": 1}')"),
}


@pytest.mark.parametrize("way", WAYS)
def test_writers_neither_notify_nor_lock(polled: None, other: Any, way: str) -> None:
    with transaction.atomic():
        WAYS[way]()
        assert sql(ADVISORY) == [(0,)]
    assert Notification.objects.exists()
    assert heard(other) == []
    with transaction.atomic():
        notify(Step("a", 1))
        assert sql(ADVISORY) != [(0,)]
    assert heard(other) == ["app.Step"]


def test_whoever_puts_messages_back_does_not_notify(polled: None, other: Any) -> None:
    notify_many([Job(1), Job(2)])
    Notification.objects.retry()
    Notification.objects.replay()
    delivery = Delivery([Job], using="default", is_stopping=lambda: bool(numbers("do_job")))
    delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1]
    assert heard(other) == []


def test_the_setting_is_for_channels_that_do_not_say(
    settings: Any, monkeypatch: pytest.MonkeyPatch, other: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Step, "notify", True)
        settings.PGPUBSUB_NOTIFY = False
        call_command("migrate", "pgpubsub_sql", verbosity=0)
        notify(Job(1))
        notify(Step("a", 1))
        sql("SELECT pgpubsub_notify('of another project', '{}')")
        assert heard(other) == ["app.Step"]
        assert notified_names(["app.Job", "app.Step", "of another project"]) == ["app.Step"]
    del settings.PGPUBSUB_NOTIFY
    (fault,) = find_faults(connection, "public")
    assert "pgpubsub_is_notified(text) does not fit" in fault.text
    call_command("migrate", "pgpubsub_sql", verbosity=0)
    assert find_faults(connection, "public") == []


def test_a_sleeping_worker_handles_a_prepared_transaction(polled: None, other: Any) -> None:
    """Two-phase commit, which PostgreSQL refuses to transactions that notify."""
    with asleep(Job, Shout, Step) as worker, stranger() as writing:
        writing.execute("BEGIN")
        writing.execute("SELECT pgpubsub_notify('app.Job', '{\"number\": 1}')")
        writing.execute("PREPARE TRANSACTION 'polled'")
        fall_asleep(worker)
        writing.execute("COMMIT PREPARED 'polled'")
        eventually(lambda: worker.step() or numbers("do_job"))
        assert numbers("do_job") == [1]


def test_a_worker_sleeps_on_some_channels_and_polls_others(polled: None) -> None:
    with asleep(Job, Shout, Step) as worker:
        assert worker._sleeper._states[Lane("app.Step")] is sleeping.SleepState.ASLEEP
        notify(Job(1))
        eventually(lambda: worker.step() or numbers("do_job"))
        with stranger() as cursor:
            cursor.execute('LISTEN "app.Step"')
            notify(Step("a", 1))
            assert heard(cursor) == ["app.Step"]
        eventually(lambda: worker.step() or numbers("step"))


def test_whoever_notifies_all_the_same_is_heard(polled: None) -> None:
    with asleep(Job, Shout) as worker:
        worker._sleeper._awake_until[Lane("app.Job")] = -math.inf
        worker._polled(Lane("app.Job"), found=False, may_sleep=True)
        notify(Job(1))
        sql("SELECT pg_notify('app.Job', '')")
        worker.step()
        worker._poll()
        assert numbers("do_job") == [1]


def test_it_is_polled_less_often_the_longer_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(sleeping, "time", clock)
    sleeper = Sleeper([], polled=[Lane("app.Job")])
    for since, expected in {
        0.01: AWAKE_SECONDS,
        1.0: 0.1,
        20.0: 2.0,
        100.0: POLL_SECONDS,
        86400.0: POLL_SECONDS,
    }.items():
        sleeper.polled(Lane("app.Job"), found=True)
        clock.now += LINGER_SECONDS + since
        assert sleeper.polled(Lane("app.Job"), found=False) == pytest.approx(expected)
    assert not sleeper.is_awake


@pytest.fixture
def thousand(monkeypatch: pytest.MonkeyPatch) -> list[type[Channel]]:
    """Return durable channels, of which every other one is polled."""
    monkeypatch.setattr(channels, "_declared", list(channels._declared))
    return [
        type(
            f"Many{number}",
            (Channel,),
            {
                "channel_name": f"many {number}",
                "lock_notifications": True,
                "notify": number % 2 > 0,
            },
        )
        for number in range(1000)
    ]


def test_an_idle_worker_of_a_thousand_channels_queries_once_in_ten_seconds(
    thousand: list[type[Channel]],
) -> None:
    with asleep(*thousand) as worker:
        worker._keep_house()
        let_time_pass(worker, 1000.0)
        with CaptureQueriesContext(connection) as queries:
            worker._poll()
            worker._look_ahead()
            worker._keep_house()
        assert len(queries) == 1, queries.captured_queries
        assert worker._patience() > POLL_SECONDS - 1


def let_time_pass(worker: Worker, seconds: float) -> None:
    """Have nothing come for so long, and all channels be due."""
    for lane in worker.delivery.lanes:
        worker._poll_at[lane] -= seconds
        worker._sleeper._awake_until[lane] -= seconds


def test_a_worker_of_a_thousand_channels_begins_with_a_few_queries(
    thousand: list[type[Channel]],
) -> None:
    notify_many([Job(1)])
    with CaptureQueriesContext(connection) as queries, asleep(Job, *thousand):
        assert numbers("do_job") == [1]
    assert len(queries) < 100


def test_the_time_of_a_look_is_shared_by_its_channels(thousand: list[type[Channel]]) -> None:
    """Each was charged with all of it, so that none could fall asleep soon."""
    with asleep(*thousand) as worker:
        started = time.monotonic()
        worker.delivery.look(dict.fromkeys(worker.delivery.lanes, True))
        took = time.monotonic() - started
        restarts = [one.claims._restarts for one in worker.delivery._states.values()]  # type: ignore[attr-defined]
        assert 0 < sum(one._took[-1] for one in restarts) <= took


def test_a_drain_of_a_thousand_channels_claims_from_those_that_have_messages(
    thousand: list[type[Channel]],
) -> None:
    notify_many([Job(1)])
    worker = Worker([Job, *thousand])
    with CaptureQueriesContext(connection) as queries:
        assert worker.drain()
    assert numbers("do_job") == [1]
    assert len(queries) < 50, queries.captured_queries
