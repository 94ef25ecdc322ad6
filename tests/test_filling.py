"""Subscriptions that begin with the history: what was sent before they were registered."""

from __future__ import annotations

import datetime
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.utils import timezone

import pgpubsub_sql
from pgpubsub_sql import Channel, notify, notify_many
from pgpubsub_sql.migrations_ops import maintenance
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import filling
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.filling import Filler
from pgpubsub_sql.worker.session import Session
from tests.conftest import eventually
from tests.ledger import sql, stranger
from tests.registries import blank

__all__ = ("blank",)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("blank")]

NAME = "sale"
SEARCH = Lane(NAME, "search")
STATE = "SELECT filled_to, fill_until FROM pgpubsub_sql_subscription WHERE name = 'search'"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """No flush empties the table."""
    yield
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s", NAME)


@pytest.fixture
def sale() -> type[Channel]:
    return declare()


@pytest.fixture
def keyed() -> type[Channel]:
    return declare(ordering_key="key")


def declare(**options: Any) -> type[Channel]:
    fields = {"__annotations__": {"number": int, "key": str | None}, "key": None}
    options = {"channel_name": NAME, "lock_notifications": True} | options
    channel = dataclass(type("Sale", (Channel,), fields | options))
    pgpubsub_sql.listener(channel)(lambda number: None)
    return channel


def join(channel: type[Channel]) -> list[int]:
    """Have another subscription begin with the history; return what its listener hears."""
    heard: list[int] = []

    def index(number: int) -> None:
        heard.append(number)

    pgpubsub_sql.listener(channel, subscription="search", start="history")(index)
    maintenance.register_subscriptions("default")
    return heard


def filler(channel: type[Channel]) -> Filler:
    return Filler({NAME: channel}, [SEARCH], Session("default"))


def fill(channel: type[Channel]) -> None:
    """Fill to the end."""
    one = filler(channel)
    eventually(lambda: one.fill() or not is_filling())
    while is_filling():
        one.fill()


def is_filling() -> bool:
    return sql(STATE) != [(None, None)]


def numbers() -> list[int]:
    """Return what is stored for the subscription, in order of messages."""
    rows = sql(
        "SELECT (payload->>'number')::integer FROM pgpubsub_sql_notification"
        " WHERE channel = 'sale' AND subscription = 'search' ORDER BY coalesce(message, id)"
    )
    return [number for (number,) in rows]


def drain(channel: type[Channel], name: str = "search") -> None:
    delivery = Delivery([channel], using="default")
    while delivery.handle_stored(NAME, name):
        pass


# --- What it gets


def test_it_gets_what_was_sent_before_and_since_once(sale: type[Channel]) -> None:
    notify_many([sale(number=n) for n in range(5)])
    heard = join(sale)
    notify_many([sale(number=n) for n in range(5, 10)])
    assert numbers() == [5, 6, 7, 8, 9]
    drain(sale)
    assert heard == []
    fill(sale)
    assert numbers() == list(range(10))
    drain(sale)
    assert heard == list(range(10))
    notify(sale, number=10)
    drain(sale)
    assert heard == list(range(11))
    assert Notification.objects.filter(subscription="").count() == 11


def test_a_listener_without_start_gets_what_is_sent_since(sale: type[Channel]) -> None:
    notify(sale, number=1)
    pgpubsub_sql.listener(sale, subscription="search")(lambda: None)
    maintenance.register_subscriptions("default")
    assert not is_filling()
    assert numbers() == []


def test_who_is_registered_already_is_not_filled(sale: type[Channel]) -> None:
    notify(sale, number=1)
    sql("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES (%s, 'search')", NAME)
    join(sale)
    assert not is_filling()


def test_it_is_taken_as_far_as_it_is_filled(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "STEP_MESSAGES", 2)
    notify_many([sale(number=n) for n in range(5)])
    heard = join(sale)
    notify(sale, number=5)
    one = filler(sale)
    one.fill()
    for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]):
        one.fill()
        drain(sale)
        assert heard == expected
    assert not is_filling()


def test_it_is_not_filled_faster_than_it_is_handled(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a year of history would be in the table of what waits."""
    monkeypatch.setattr(filling, "STEP_MESSAGES", 2)
    monkeypatch.setattr(filling, "BUSY_SECONDS", 0.0)
    notify_many([sale(number=n) for n in range(5)])
    join(sale)
    notify_many([sale(number=n) for n in range(5, 9)])
    one = filler(sale)
    for _ in range(9):
        one.fill()
    assert numbers() == [0, 1, 5, 6, 7, 8]


def test_the_messages_of_a_key_keep_their_order(
    keyed: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent since is not taken before what is copied."""
    monkeypatch.setattr(filling, "STEP_MESSAGES", 3)
    notify_many([keyed(number=n, key="ab"[n % 2]) for n in range(8)])
    heard = join(keyed)
    notify_many([keyed(number=n, key="ab"[n % 2]) for n in range(8, 12)])
    one = filler(keyed)
    while is_filling():
        drain(keyed)
        one.fill()
    drain(keyed)
    for odd in (0, 1):
        assert [n for n in heard if n % 2 == odd] == list(range(odd, 12, 2))


def test_what_failed_elsewhere_begins_anew(sale: type[Channel]) -> None:
    for number in (1, 2):
        notify(sale, number=number)
    Notification.objects.filter(payload__number=1).update(
        attempts=3, reason="OSError", failed_at="2026-01-31T00:00Z", available_at=None
    )
    heard = join(sale)
    fill(sale)
    rows = Notification.objects.filter(subscription="search")
    assert {(row.attempts, row.reason, row.failed_at) for row in rows} == {(0, "", None)}
    drain(sale)
    assert heard == [1, 2]


def test_a_delay_counts_and_what_has_expired_is_left_out(sale: type[Channel]) -> None:
    hour = datetime.timedelta(hours=1)
    notify(sale(number=1), delay=hour)
    notify(sale(number=2), expires=timezone.now() + hour)
    notify(sale(number=3), expires=timezone.now() + hour)
    Notification.objects.filter(payload__number=3).update(expires_at="2026-01-31T00:00Z")
    heard = join(sale)
    fill(sale)
    assert numbers() == [1, 2]
    drain(sale)
    assert heard == [2]


def test_nothing_was_sent_before(sale: type[Channel]) -> None:
    heard = join(sale)
    notify(sale, number=1)
    fill(sale)
    drain(sale)
    assert heard == [1]


def test_several_subscriptions_have_copies_of_a_message(sale: type[Channel]) -> None:
    sql("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES (%s, 'mail')", NAME)
    sql("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES (%s, '')", NAME)
    notify_many([sale(number=n) for n in range(3)])
    Notification.objects.filter(payload__number=1, subscription="").delete()
    join(sale)
    fill(sale)
    assert numbers() == [0, 1, 2]


# --- Who stores meanwhile


@contextmanager
def writing(level: str) -> Iterator[Any]:
    """A transaction that has begun before the registration."""
    with stranger() as writer:
        writer.execute(f"BEGIN ISOLATION LEVEL {level}")
        writer.execute("SELECT count(*) FROM pgpubsub_sql_subscription")
        yield writer


def store(writer: Any, number: int) -> None:
    writer.execute(f"SELECT pgpubsub_notify('{NAME}', '{{\"number\": {number}}}')")


def test_it_waits_for_what_was_stored_in_an_open_transaction(sale: type[Channel]) -> None:
    with writing("READ COMMITTED") as writer:
        store(writer, 1)
        heard, one = join(sale), filler(sale)
        store(writer, 2)
        for _ in range(3):
            one._due = 0.0
            assert not one.fill()
        writer.execute("COMMIT")
    fill(sale)
    drain(sale)
    assert heard == [1, 2]


def test_it_waits_for_a_snapshot_that_may_still_store(sale: type[Channel]) -> None:
    """Its transaction has no id before it writes."""
    with writing("REPEATABLE READ") as writer:
        heard, one = join(sale), filler(sale)
        notify(sale, number=1)
        for _ in range(3):
            one._due = 0.0
            assert not one.fill()
        store(writer, 2)
        writer.execute("COMMIT")
    fill(sale)
    drain(sale)
    assert sorted(heard) == [1, 2]


def test_a_transaction_that_began_since_holds_nothing_up(sale: type[Channel]) -> None:
    heard = join(sale)
    with writing("REPEATABLE READ") as writer:
        one = filler(sale)
        assert one.fill() == {SEARCH}
        store(writer, 1)
        one.fill()
        assert not is_filling()
        writer.execute("COMMIT")
    drain(sale)
    assert heard == [1]


def test_a_restored_database_waits_for_no_transaction_of_another_server(
    sale: type[Channel],
) -> None:
    join(sale)
    sql("UPDATE pgpubsub_sql_subscription SET fill_xid = '999999999999' WHERE name = 'search'")
    with writing("REPEATABLE READ"):
        assert filler(sale).fill() == {SEARCH}


class Writer(threading.Thread):
    """Stores messages in transactions of one isolation level, some of which come to nothing."""

    def __init__(self, number: int, level: str, stopping: threading.Event) -> None:
        super().__init__()
        self._level, self._stopping = level, stopping
        self._random = random.Random(number)
        self._numbers = iter(range(number * 10**6, 10**9))
        self.committed: list[int] = []

    def run(self) -> None:
        with stranger() as cursor:
            while not self._stopping.is_set():
                self._write(cursor)

    def _write(self, cursor: Any) -> None:
        cursor.execute(f"BEGIN ISOLATION LEVEL {self._level}")
        cursor.execute("SELECT count(*) FROM pgpubsub_sql_subscription")
        self._pause(0.01)
        stored = [next(self._numbers) for _ in range(self._random.randint(1, 3))]
        for number in stored:
            store(cursor, number)
            self._pause(0.005)
        if self._random.random() < 0.9:
            cursor.execute("COMMIT")
            self.committed += stored
        else:
            cursor.execute("ROLLBACK")

    def _pause(self, seconds: float) -> None:
        """As often as not none at all, and now and then a long one."""
        length = self._random.choice([0, seconds, seconds * 10 * (self._random.random() < 0.1)])
        self._stopping.wait(length)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_missed_and_nothing_comes_twice_whoever_writes(
    sale: type[Channel], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled and handled by two workers at once, while six writers write."""
    monkeypatch.setattr(filling, "STEP_MESSAGES", 20)
    monkeypatch.setattr(filling, "BARRIER_SECONDS", 0.0)
    stopping = threading.Event()
    levels = ["READ COMMITTED", "REPEATABLE READ"] * 3
    writers = [Writer(seed * 10 + n, level, stopping) for n, level in enumerate(levels, 1)]
    for writer in writers:
        writer.start()
    try:
        eventually(lambda: Notification.objects.count() > 50)
        heard, fillers = join(sale), [filler(sale), filler(sale)]
        delivery = Delivery([sale], using="default", lanes=[SEARCH])
        while is_filling():
            for one in fillers:
                one.fill()
                delivery.handle_stored(*SEARCH)
        before = Notification.objects.count()
        eventually(lambda: Notification.objects.count() > before + 50)
    finally:
        stopping.set()
        for writer in writers:
            writer.join()
    drain(sale)
    committed = [number for writer in writers for number in writer.committed]
    assert Counter(heard) == Counter(committed)
