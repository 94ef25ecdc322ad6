"""What is drained, and by whom. Imported once Django is set up."""

from __future__ import annotations

import gc
from dataclasses import dataclass

from django.db import connection, transaction

import pgpubsub_sql
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.models import Entry, Item

BATCH = 500
count = 0


@dataclass
class Nothing(pgpubsub_sql.Channel):
    number: int
    name: str
    lock_notifications = True


@dataclass
class Rows(pgpubsub_sql.TriggerChannel):
    model = Item
    lock_notifications = True


@dataclass
class Inserts(pgpubsub_sql.Channel):
    number: int
    name: str
    lock_notifications = True


@dataclass
class Ordered(pgpubsub_sql.Channel):
    number: int
    name: str
    lock_notifications = True
    ordering_key = "number"


@pgpubsub_sql.listener(Nothing)
@pgpubsub_sql.listener(Ordered)
def do_nothing(number: int, name: str) -> None:
    global count
    count += 1


@pgpubsub_sql.listener(Rows)
def read_row(new: Item) -> None:
    global count
    count += 1


@pgpubsub_sql.listener(Inserts)
def insert(number: int, name: str) -> None:
    global count
    count += 1
    Entry.objects.create(listener=name, data={"number": number})


FIELDS = "jsonb_build_object('number', number, 'name', 'name ' || number)"
ROW = """
    jsonb_build_object(
        'op', 'INSERT', 'when', 'AFTER', 'old', NULL, 'context', '{}'::jsonb,
        'new', jsonb_build_object(
            'id', number, 'name', 'name ' || number, 'number', number, 'amount', 1.5,
            'data', '{}'::jsonb
        )
    )"""
STORE = """
    INSERT INTO pgpubsub_sql_notification (channel, payload, key)
    SELECT %s, {payload}, {key} FROM generate_series(1, %s) AS number"""
TAKE = """
    DELETE FROM pgpubsub_sql_notification WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM pgpubsub_sql_notification
        WHERE channel = %s AND NOT alone AND available_at <= statement_timestamp()
        ORDER BY available_at, id LIMIT %s FOR UPDATE SKIP LOCKED
    )) RETURNING id, payload::text"""


class Workload:
    """One channel's messages, drained by a Delivery as in a worker."""

    def __init__(self, name: str, channel: type, payload: str = FIELDS, key: str = "NULL") -> None:
        self.name = name
        self.channel = channel
        self._payload = payload
        self._key = key

    def prepare(self, backlog: int) -> None:
        """Store the messages, and let the server get over it."""
        global count
        count = 0
        gc.collect()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE pgpubsub_sql_notification, app_entry")
            cursor.execute(
                STORE.format(payload=self._payload, key=self._key),
                [self.channel.postgres_name(), backlog],
            )
            cursor.execute("VACUUM ANALYZE pgpubsub_sql_notification")
            cursor.execute("CHECKPOINT")
        self._delivery = Delivery([self.channel], using="default", schema="public")

    def drain(self) -> None:
        """Handle everything."""
        name = self.channel.postgres_name()
        while self._delivery.handle_stored(name):
            pass

    def check(self, backlog: int) -> None:
        """Was everything handled once?"""
        assert count == backlog, (count, backlog)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pgpubsub_sql_notification")
            assert cursor.fetchone() == (0,)


class RawLoop(Workload):
    """The limit: the driver's own cursor, and nothing done with what it brings."""

    def drain(self) -> None:
        """Delete everything, in transactions of so many rows."""
        global count
        raw = connection.connection
        raw.autocommit = True
        with raw.cursor() as cursor:
            while True:
                cursor.execute(TAKE, [self.channel.postgres_name(), BATCH])
                taken = cursor.fetchall()
                if not taken:
                    return
                count += len(taken)


class PlainInserts(Workload):
    """The limit of inserting: the same insert in a plain loop, one transaction per 100."""

    def drain(self) -> None:
        """Insert as often, and forget the messages."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT (payload->>'number')::int FROM pgpubsub_sql_notification")
            numbers = [number for (number,) in cursor.fetchall()]
        for start in range(0, len(numbers), 100):
            with transaction.atomic():
                for number in numbers[start : start + 100]:
                    insert(number, "name")
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE pgpubsub_sql_notification")


WORKLOADS = [
    RawLoop(f"raw loop, {BATCH} rows", Nothing),
    Workload("no-op", Nothing),
    Workload("no-op, model instance", Rows, ROW),
    Workload("no-op, ten a key", Ordered, key="jsonb_build_array((number - 1) / 10)::text"),
    PlainInserts("plain loop of inserts", Inserts),
    Workload("one ORM insert", Inserts),
]
