"""Subscriptions that begin with the history: what was sent before they were registered."""

from __future__ import annotations

import datetime
import logging
import math
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

import pgpubsub_sql
from pgpubsub_sql import Channel, notify, notify_many
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.migrations_ops import maintenance, shared_operations
from pgpubsub_sql.models import Notification
from pgpubsub_sql.prometheus import Collector
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscribing import rename
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import filling
from pgpubsub_sql.worker.claims import CLAIM_BYTES, statement
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.filling import Filler
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.worker import Worker
from tests import kept
from tests.app.models import Entry
from tests.conftest import eventually
from tests.delivery.plans import explained
from tests.kept import scatter
from tests.ledger import sql, stranger
from tests.management.support import run, run_json
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
    found = Filler({NAME: channel}, [SEARCH], Session("default"))
    found.start()
    return found


def fill(channel: type[Channel]) -> None:
    """Fill to the end."""
    one = filler(channel)
    eventually(lambda: one.fill() is None or not is_filling())


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


def test_what_was_due_before_the_registration_does_not_stop_it(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender said since when it is due; nobody takes it before it is filled up to it."""
    monkeypatch.setattr(filling, "STEP_MESSAGES", 2)
    notify_many([sale(number=n) for n in range(3)])
    heard = join(sale)
    for number in (3, 4):
        notify(sale(number=number), at=timezone.now() - datetime.timedelta(days=1))
    one = filler(sale)
    for _ in range(4):
        one.fill()
        drain(sale)
    assert sorted(heard) == [0, 1, 2, 3, 4]


def test_what_is_paused_is_not_filled(sale: type[Channel]) -> None:
    notify(sale, number=1)
    join(sale)
    sql("UPDATE pgpubsub_sql_subscription SET paused_at = now() WHERE name = 'search'")
    one = filler(sale)
    assert not one.fill()
    assert one.patience > filling.BARRIER_SECONDS
    assert numbers() == []
    sql("UPDATE pgpubsub_sql_subscription SET paused_at = NULL WHERE name = 'search'")
    fill(sale)
    assert numbers() == [1]


def test_nobody_searches_what_is_stored_before_the_filling_begins(
    keyed: type[Channel],
) -> None:
    """Each poll read all that was sent since the registration, and took nothing."""
    join(keyed)
    notify_many([keyed(number=n, key="a") for n in range(3)])
    start = {"keyless": False, "after": "-infinity", "after_id": 0, "limit": 500}
    take = start | SEARCH._asdict() | {"bytes": CLAIM_BYTES}
    nodes = explained(statement("take", ClaimFilter().text), take)
    probes = [one for one in nodes if one["Node Type"].startswith(("Index", "Bitmap"))]
    assert {one["Actual Loops"] for one in probes if "notification" in str(one)} == {0}
    keys = {**SEARCH._asdict(), "after": "", "limit": 9, "steps": 9}
    assert Session("default").execute("lock_keys", keys) == []
    delivery = Delivery([keyed], using="default", lanes=[SEARCH])
    assert delivery.look({SEARCH: True}) == {SEARCH: math.inf}
    assert delivery.next_ready() == {}
    assert delivery.paused == set()


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


def test_no_message_of_another_channel_is_read(sale: type[Channel]) -> None:
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, payload, available_at)"
        " SELECT 'other', '{}', CASE WHEN n % 2 = 0 THEN now() END"
        " FROM generate_series(1, 20000) AS n"
    )
    notify_many([sale(number=n) for n in range(20)])
    Notification.objects.filter(channel=NAME, payload__number__lt=10).update(available_at=None)
    sql("ANALYZE pgpubsub_sql_notification")
    join(sale)
    one = filler(sale)
    (looked,) = one._filling()
    values = {**SEARCH._asdict(), "filled_to": looked.filled_to, "limit": 1000}
    highest = "SELECT max(coalesce(message, id)) FROM pgpubsub_sql_notification WHERE channel = %s"
    ((values["fill_until"],),) = sql(highest, NAME)
    for name in ("begin_filling", "fill"):
        nodes = explained(query(name), values | {"fill_xid": looked.fill_xid})
        scans = [one for one in nodes if one.get("Relation Name") == "pgpubsub_sql_notification"]
        read = [
            (one["Actual Rows"] + one.get("Rows Removed by Filter", 0)) * one["Actual Loops"]
            for one in scans
            if one["Node Type"] != "ModifyTable"
        ]
        assert read
        assert max(read) <= 20
    assert numbers() == list(range(20))


# --- What was handled, and is kept


def keep(number: int, slot: int = 0, **values: Any) -> None:
    """Have a message be in the history, and not stored any more."""
    (row,) = Notification.objects.filter(payload__number=number)
    same = ("id", "channel", "message", "key", "payload", "created_at", "expires_at")
    kept.keep(
        *(slot, values.get("subscription", ""), values.get("outcome", "handled"), row.pk),
        source="FROM pgpubsub_sql_notification WHERE id = %s",
        slot="%s",
        subscription="%s",
        outcome="%s",
        **dict(zip(same, same, strict=True)),
    )
    if not values.get("is_stored"):
        row.delete()


@pytest.fixture
def slots() -> Iterator[None]:
    """The partitions of the history."""
    sql(shared_operations.slots("public"))
    yield
    sql("TRUNCATE pgpubsub_sql_history")


@pytest.mark.usefixtures("slots")
def test_it_gets_what_was_handled_and_is_kept_in_order(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "STEP_MESSAGES", 3)
    notify_many([sale(number=n) for n in range(12)])
    for number in (0, 1, 4, 7, 8, 9, 10):
        keep(number, slot=number % 4)
    keep(5, slot=1, is_stored=True)
    heard = join(sale)
    notify(sale, number=12)
    one = filler(sale)
    while is_filling():
        one.fill()
        drain(sale)
    drain(sale)
    assert heard == list(range(13))


@pytest.mark.usefixtures("slots")
def test_the_copies_that_several_subscriptions_have_handled_are_one_message(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of its own, from an earlier life: it was ended, and begins anew."""
    monkeypatch.setattr(filling, "STEP_MESSAGES", 2)
    for number in range(3):
        notify(sale, number=number)
        for name in ("", "mail", "search"):
            keep(number, subscription=name, is_stored=name != "search")
    heard = join(sale)
    one = filler(sale)
    while is_filling():
        one.fill()
        drain(sale)
    assert heard == [0, 1, 2]


@pytest.mark.usefixtures("slots")
def test_what_had_expired_is_no_history(sale: type[Channel]) -> None:
    notify_many([sale(number=n) for n in range(3)])
    keep(0, outcome="discarded")
    keep(1, outcome="expired")
    keep(2)
    heard = join(sale)
    fill(sale)
    drain(sale)
    assert heard == [0, 2]


@pytest.mark.usefixtures("slots")
def test_a_step_may_end_where_integers_do(sale: type[Channel]) -> None:
    """The last number of a bucket is also the highest integer of four bytes."""
    edge = 2**31 - 1
    sql("SELECT setval('pgpubsub_sql_notification_id_seq', %s)", edge)
    notify(sale(number=1))
    keep(1)
    join(sale)
    sql("UPDATE pgpubsub_sql_subscription SET filled_to = %s WHERE name = 'search'", edge)
    fill(sale)
    assert [
        row.payload["number"] for row in Notification.objects.filter(subscription="search")
    ] == [1]


@pytest.mark.usefixtures("slots")
def test_what_has_expired_since_it_was_handled_is_left_out(sale: type[Channel]) -> None:
    """And what has not still expires in time."""
    hour = timezone.now() + datetime.timedelta(hours=1)
    for number in (1, 2):
        notify(sale(number=number), expires=hour)
        keep(number)
    scatter()
    sql("UPDATE pgpubsub_sql_history SET expires[1] = now() WHERE payloads[1]->>'number' = '1'")
    join(sale)
    fill(sale)
    (row,) = Notification.objects.filter(subscription="search")
    assert (row.payload["number"], row.expires_at) == (2, hour)


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.usefixtures("slots")
def test_what_is_discarded_meanwhile_does_not_come_back(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other than what was discarded for a former subscription of that name."""
    monkeypatch.setattr(filling, "STEP_MESSAGES", limit)
    sale = declare(keep=datetime.timedelta(days=1))
    for number in range(3):
        notify(sale, number=number)
    keep(0, subscription="search", is_stored=True)
    heard = join(sale)
    for number in range(3, 6):
        notify(sale, number=number)
    for name in ("search", ""):
        Notification.objects.filter(subscription=name, payload__number=4).discard()
    one = filler(sale)
    while is_filling():
        one.fill()
        drain(sale)
    drain(sale)
    assert heard == [0, 1, 2, 3, 5]


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
            one.start()
            assert not one.fill()
        writer.execute("COMMIT")
    fill(sale)
    drain(sale)
    assert heard == [1, 2]


def test_it_waits_for_who_stored_while_the_registration_was_not_committed(
    sale: type[Channel],
) -> None:
    """Its id is above that of the registration, and nobody with a higher one has ended."""
    with stranger() as writer:
        writer.execute("BEGIN")
        with transaction.atomic():
            heard = join(sale)
            store(writer, 1)
        one = filler(sale)
        assert not one.fill()
        writer.execute("COMMIT")
    fill(sale)
    drain(sale)
    assert heard == [1]


def test_it_waits_for_a_snapshot_that_may_still_store(sale: type[Channel]) -> None:
    """Its transaction has no id before it writes."""
    with writing("REPEATABLE READ") as writer:
        heard, one = join(sale), filler(sale)
        notify(sale, number=1)
        for _ in range(3):
            one.start()
            assert not one.fill()
        store(writer, 2)
        writer.execute("COMMIT")
    fill(sale)
    drain(sale)
    assert sorted(heard) == [1, 2]


@pytest.fixture
def unprivileged() -> Iterator[str]:
    """A role that may fill, and sees of the sessions of others next to nothing."""
    role = "filling"
    sql(f"CREATE ROLE {role}")
    sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    sql(f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO {role}")
    sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    yield role
    sql("RESET ROLE")
    sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_it_waits_for_the_snapshot_of_a_role_whose_sessions_it_may_not_see(
    sale: type[Channel], unprivileged: str
) -> None:
    with writing("REPEATABLE READ") as writer:
        heard = join(sale)
        sql(f"SET ROLE {unprivileged}")
        assert sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type IS NULL") != [(0,)]
        assert not filler(sale).fill()
        store(writer, 1)
        writer.execute("COMMIT")
    fill(sale)
    drain(sale)
    assert heard == [1]


def test_what_was_learned_of_one_registration_does_not_count_for_the_next(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "BARRIER_SECONDS", 1e-9)
    with writing("READ COMMITTED") as writer:
        store(writer, 1)
        heard, one = join(sale), filler(sale)
        assert not one.fill()
        writer.execute("COMMIT")
    with writing("REPEATABLE READ") as writer:
        sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s", NAME)
        maintenance.register_subscriptions("default")
        for _ in range(3):
            assert not one.fill()
        store(writer, 2)
        writer.execute("COMMIT")
    while is_filling():
        one.fill()
    drain(sale)
    assert heard == [1, 2]


def test_a_registration_that_is_gone_does_not_begin(sale: type[Channel]) -> None:
    join(sale)
    one = filler(sale)
    (looked,) = one._filling()
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s", NAME)
    with writing("REPEATABLE READ"):
        maintenance.register_subscriptions("default")
        one._barriers[SEARCH, looked.fill_xid] = looked.fill_xid
        one._begin(looked)
        assert sql("SELECT fill_until FROM pgpubsub_sql_subscription WHERE name = 'search'") == [
            (None,)
        ]


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
        self._pause(0.1)
        stored = [next(self._numbers) for _ in range(self._random.randint(1, 3))]
        for number in stored:
            store(cursor, number)
            self._pause(0.1)
        if self._random.random() < 0.9:
            cursor.execute("COMMIT")
            self.committed += stored
        else:
            cursor.execute("ROLLBACK")

    def _pause(self, seconds: float) -> None:
        """As often as not none at all."""
        self._stopping.wait(self._random.choice([0, self._random.uniform(0, seconds)]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("slots")
def test_nothing_is_missed_and_nothing_comes_twice_whoever_writes(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled by two workers at once, while six writers write, and others handle what is stored."""
    sale = declare(keep=datetime.timedelta(days=1))
    monkeypatch.setattr(filling, "STEP_MESSAGES", (20, 10_000)[seed % 2])
    monkeypatch.setattr(filling, "BARRIER_SECONDS", 0.0)
    stopping = threading.Event()
    levels = ["READ COMMITTED", "REPEATABLE READ"] * 3
    writers = [Writer(seed * 10 + n, level, stopping) for n, level in enumerate(levels, 1)]
    for writer in writers:
        writer.start()
    try:
        eventually(lambda: Notification.objects.count() > 50)
        delivery = Delivery([sale], using="default", lanes=[Lane(NAME)])
        delivery.handle_stored(NAME)
        heard, fillers = join(sale), [filler(sale), filler(sale)]
        delivery = Delivery([sale], using="default")
        while is_filling():
            for one in fillers:
                one.fill()
                for lane in delivery.lanes:
                    delivery.handle_stored(*lane)
        before = Notification.objects.count()
        eventually(lambda: Notification.objects.count() > before + 50)
    finally:
        stopping.set()
        for writer in writers:
            writer.join()
    drain(sale)
    committed = [number for writer in writers for number in writer.committed]
    assert Counter(heard) == Counter(committed)


# --- Workers


PROGRAM = """
import sys
sys.path[:] = {path!r}
import django
django.setup()
from django.db import connection
connection.settings_dict["NAME"] = {database!r}
from tests.test_filling import work
work()
"""


def note(number: int) -> None:
    """Listen; what was done can be seen from other processes."""
    Entry.objects.create(listener="note", data={"number": number})


def work() -> None:
    """Fill and handle a few messages at a time, for ever."""
    sale = declare()
    pgpubsub_sql.listener(sale, subscription="search")(note)
    filling.STEP_MESSAGES = 5
    one, delivery = filler(sale), Delivery([sale], using="default")
    while True:
        one.fill()
        delivery.handle_stored(*SEARCH)


def test_who_is_killed_while_filling_leaves_nothing_behind(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on where it was."""
    monkeypatch.setattr(filling, "STEP_MESSAGES", 5000)
    notify_many([sale(number=n) for n in range(3000)])
    join(sale)
    values = {"path": sys.path, "database": connection.settings_dict["NAME"]}
    program = [sys.executable, "-c", PROGRAM.format(**values)]
    for _ in range(2):
        before = Entry.objects.count()
        with subprocess.Popen(program) as process:
            eventually(lambda before=before: Entry.objects.count() > before + 50)
            process.kill()
    assert is_filling()
    handled = [entry.data["number"] for entry in Entry.objects.all()]
    fill(sale)
    assert sorted([*handled, *numbers()]) == list(range(3000))


def test_a_drain_fills_and_handles(sale: type[Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "STEP_MESSAGES", 2)
    notify_many([sale(number=n) for n in range(5)])
    heard = join(sale)
    notify(sale, number=5)
    Worker([sale], lanes=[SEARCH]).drain()
    assert heard == [0, 1, 2, 3, 4, 5]


def test_a_drain_waits_for_transactions_and_says_so_once(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It reported success, and had filled nothing."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(filling, "BARRIER_SECONDS", 0.001)
    with writing("READ COMMITTED") as writer:
        store(writer, 1)
        heard, waits = join(sale), iter(range(5))
        worker = Worker([sale], lanes=[SEARCH])
        wait = worker.shutdown.wait

        def look(**options: Any) -> list[Any]:
            if next(waits) == 4:
                writer.execute("COMMIT")
            return wait(**options)

        monkeypatch.setattr(worker.shutdown, "wait", look)
        worker.drain()
    assert heard == [1]
    assert caplog.text.count("once transactions have ended") == 1


def test_a_drain_waits_for_another_worker_that_fills(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    notify(sale, number=1)
    heard = join(sale)
    assert filler(sale).fill() == {SEARCH}
    worker = Worker([sale], lanes=[SEARCH])
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM pgpubsub_sql_subscription WHERE name = 'search' FOR UPDATE")
        wait = worker.shutdown.wait

        def end(**options: Any) -> list[Any]:
            other.execute("COMMIT")
            return wait(**options)

        monkeypatch.setattr(worker.shutdown, "wait", end)
        worker.drain()
    assert heard == [1]


def test_a_drain_does_not_wait_for_what_is_paused(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, worker = join(sale), Worker([sale], lanes=[SEARCH])
    monkeypatch.setattr(worker.shutdown, "wait", lambda **options: pytest.fail("waits"))
    sql("UPDATE pgpubsub_sql_subscription SET paused_at = now() WHERE name = 'search'")
    with writing("READ COMMITTED") as writer:
        store(writer, 1)
        sql("UPDATE pgpubsub_sql_subscription SET fill_xid = pg_current_xact_id()")
        worker.drain()
    assert heard == []


def test_a_worker_fills_and_handles(sale: type[Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "STEP_MESSAGES", 2)
    notify_many([sale(number=n) for n in range(5)])
    heard = join(sale)
    worker = Worker([sale], lanes=[SEARCH])
    with worker.shutdown, closing(worker.doorbell):
        worker._connect()
        while len(heard) < 5:
            worker.step()
    assert heard == [0, 1, 2, 3, 4]
    assert not is_filling()


def test_what_keeps_it_from_filling_is_logged_and_tried_again(
    sale: type[Channel], caplog: pytest.LogCaptureFixture
) -> None:
    join(sale)
    one = filler(sale)
    sql("ALTER VIEW pgpubsub_sql_handled RENAME TO hidden")
    assert one.fill() == set()
    words = "registered failed: The view pgpubsub_sql_handled in the database 'default' is missing"
    assert words in caplog.text
    assert one.patience > 0
    sql("ALTER VIEW hidden RENAME TO pgpubsub_sql_handled")
    fill(sale)


def test_a_step_of_another_worker_is_not_made_again(sale: type[Channel]) -> None:
    """Whoever has looked before it does nothing."""
    notify_many([sale(number=n) for n in range(5)])
    join(sale)
    one, other = filler(sale), filler(sale)
    one.fill()
    (looked,) = other._filling()
    assert other._copy(looked) == 0.0
    assert other._copy(looked) == filling.BUSY_SECONDS
    assert numbers() == list(range(5))


def test_a_worker_that_may_not_fill_does_not_begin(sale: type[Channel], unprivileged: str) -> None:
    sql(f"REVOKE UPDATE ON pgpubsub_sql_subscription FROM {unprivileged}")
    worker = Worker([sale])
    sql(f"SET ROLE {unprivileged}")
    worker._check_database()
    pgpubsub_sql.listener(sale, subscription="search", start="history")(lambda: None)
    with pytest.raises(NotReady, match=r"lacks .*UPDATE on public\.pgpubsub_sql_subscription"):
        Worker([sale])._check_database()


# --- What is said of it


def test_it_is_not_renamed_meanwhile(sale: type[Channel]) -> None:
    """Copies under the former name would be made again under the new one."""
    join(sale)
    with pytest.raises(NotReady, match=r"sale \(search\) is being filled"):
        rename("default", SEARCH, "find")
    with pytest.raises(NotReady, match=r"sale \(search\) is being filled"):
        rename("default", Lane(NAME, ""), "search")
    fill(sale)
    rename("default", SEARCH, "find")
    sql("DELETE FROM pgpubsub_sql_subscription WHERE name = 'find'")


def test_status_and_verify_say_how_far_it_is(
    sale: type[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "STEP_MESSAGES", 2)
    what = "sale (search) is being filled with what was sent before it was registered"
    notify_many([sale(number=n) for n in range(5)])
    numbered = Notification.objects.order_by("id").values_list("message", flat=True)
    second, last = numbered[1], numbered[4]
    join(sale)
    one = filler(sale)
    said = f"{what}, once transactions have ended that may still store without it."
    assert said in run("status")
    one.fill()
    said = f"{what}: nothing yet, of what is stored up to number {last:,}."
    assert said in run("status")
    one.fill()
    said = f"{what}: up to number {second:,} of {last:,}."
    assert said in run("status")
    collected = {one.name: one.samples for one in Collector(["default"]).collect()}
    values = {tuple(one.labels.values()): one.value for one in collected["pgpubsub_filling"]}
    assert (values["default", NAME, "search"], values["default", NAME, ""]) == (1, 0)
    assert said in run("verify", NAME)
    (row,) = [one for one in run_json("status")["channels"] if one["subscription"]]
    assert (row["filled_to"], row["fill_until"]) == (second, last)
    while is_filling():
        drain(sale)
        one.fill()
    assert what not in run("status")


def test_what_waits_to_be_filled_is_not_late(sale: type[Channel]) -> None:
    notify(sale, number=1)
    join(sale)
    notify(sale, number=2)
    Notification.objects.update(available_at="2026-01-31T00:00Z")
    problems = run_json("status")["problems"]
    assert [one for one in problems if "oldest message has been due" in one] == [
        one for one in problems if one.startswith("sale: ")
    ]


def test_a_start_that_does_not_exist_is_refused(sale: type[Channel]) -> None:
    with pytest.raises(ValueError, match="start must be \"history\" or None, not 'now'"):
        pgpubsub_sql.listener(sale, start="now")  # type: ignore[arg-type]
