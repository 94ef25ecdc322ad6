"""How often triggers ring, and what they send."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from django.db import DatabaseError, connection, transaction

from pgpubsub_sql.models import LongPayload, Notification
from pgpubsub_sql.sql import quote_identifier
from tests.app.models import Item
from tests.conftest import eventually
from tests.registries import announce_sleep, undone
from tests.triggers.tables import sql, watch


class Bell:
    """A session that listens, for which writers notify as for a worker that sleeps."""

    def __init__(self, *channels: str) -> None:
        self._connection = psycopg2.connect(dbname=connection.settings_dict["NAME"])
        self._connection.autocommit = True
        for channel in channels:
            self._execute(f"LISTEN {quote_identifier(channel)}")
        announce_sleep(self._execute, channels)

    def rung(self) -> list[tuple[str, str]]:
        """Return the messages since the last call. It waits for one of its own."""
        end = str(uuid.uuid4())
        self._execute(f"LISTEN the_end; NOTIFY the_end, '{end}'")
        eventually(lambda: self._heard() and self._connection.notifies[-1].payload == end)
        heard = [(one.channel, one.payload) for one in self._connection.notifies]
        self._connection.notifies.clear()
        return [one for one in heard if one[0] != "the_end"]

    def close(self) -> None:
        """Close the session."""
        self._connection.close()

    def _execute(self, statement: str, parameters: Any = None) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def _heard(self) -> list[Any]:
        self._connection.poll()
        heard: list[Any] = self._connection.notifies
        return heard


ITEMS, NEWS = "app.ItemChannel", 'item "news" äöü'


@pytest.fixture
def bell(transactional_db: None) -> Iterator[Bell]:
    bell = Bell(ITEMS, NEWS)
    yield bell
    bell.close()


def items(*numbers: int) -> list[Item]:
    return [Item(name=f"number {number}", number=number) for number in numbers]


@pytest.mark.parametrize(
    ("statement", "rings"),
    [
        ("INSERT INTO watched SELECT n, 'x' FROM generate_series(100, 1099) AS n", 1),
        ("UPDATE watched SET name = 'z'", 1),
        ("DELETE FROM watched", 1),
        ("INSERT INTO watched VALUES (1), (4) ON CONFLICT (id) DO UPDATE SET name = 'y'", 2),
        ("UPDATE watched SET name = 'z' WHERE false", 0),
    ],
)  # fmt: skip
def test_a_statement_asks_once_whether_to_notify(table: str, statement: str, rings: int) -> None:
    """P26: PostgreSQL merges equal rings of a transaction, so the calls are counted."""
    sql("CREATE TABLE calls (channel text)")
    sql(
        "CREATE OR REPLACE FUNCTION pgpubsub_must_notify(channel text) RETURNS boolean "
        "LANGUAGE sql AS 'INSERT INTO public.calls VALUES (channel) RETURNING true'"
    )
    sql(statement)
    assert sql("SELECT * FROM calls") == [("watched",)] * rings


@pytest.mark.parametrize("name", ["pgpubsub_must_notify", "pgpubsub_is_notified"])
def test_what_decides_whether_to_notify_is_replaced_in_plans_that_are_kept(
    table: str, name: str
) -> None:
    """Both are part of the plans of functions that a session has called often enough."""
    sql("CREATE TABLE calls (channel text)")
    sql("PREPARE again AS UPDATE watched SET name = 'z'")
    try:
        for _ in range(10):
            sql("EXECUTE again")
        sql(
            f"CREATE OR REPLACE FUNCTION {name}(channel text) RETURNS boolean "
            "LANGUAGE sql AS 'INSERT INTO public.calls VALUES (channel) RETURNING true'"
        )
        sql("EXECUTE again")
        assert sql("SELECT * FROM calls") == [("watched",)]
    finally:
        sql("DEALLOCATE again")


def test_by_row_it_asks_for_every_row(table: str) -> None:
    """PostgreSQL then makes one of those that are equal."""
    watch("watched", level="row")
    sql("CREATE TABLE calls (channel text)")
    sql(
        "CREATE OR REPLACE FUNCTION pgpubsub_must_notify(channel text) RETURNS boolean "
        "LANGUAGE sql AS 'INSERT INTO public.calls VALUES (channel) RETURNING true'"
    )
    sql("UPDATE watched SET name = 'z'")
    assert sql("SELECT * FROM calls") == [("watched",)] * 3


def test_a_statement_rings_once_or_sends_one_notify_a_row(bell: Bell) -> None:
    """P26, P13: for 1000 rows, a durable channel stores 1000 messages and rings once, without
    data; an ephemeral one sends 1000 NOTIFYs."""
    Item.objects.bulk_create(items(*range(1000)))
    heard = bell.rung()
    assert [one for one in heard if one[0] == ITEMS] == [(ITEMS, "")]
    assert [json.loads(payload)["new"]["number"] for name, payload in heard if name == NEWS] == [
        *range(1000)
    ]
    assert Notification.objects.count() == 1000


def test_a_statement_without_rows_does_not_ring(bell: Bell) -> None:
    """P26."""
    Item.objects.filter(number=-1).update(name="x")
    Item.objects.filter(number=-1).delete()
    sql("INSERT INTO app_item SELECT * FROM app_item")
    assert bell.rung() == []
    assert not Notification.objects.exists()


def test_equal_rows_are_separate_messages(bell: Bell) -> None:
    """P7: PostgreSQL merges identical messages of a transaction; these are not identical."""
    Item.objects.bulk_create(items(1))
    bell.rung()
    with transaction.atomic():
        for _ in range(3):
            Item.objects.update(number=1)
    assert len([one for one in bell.rung() if one[0] == NEWS]) == 3


def test_a_rolled_back_write_sends_nothing(bell: Bell) -> None:
    """Neither a stored message nor a ring nor an ephemeral message."""
    with undone():
        Item.objects.bulk_create(items(1, 2))
    assert bell.rung() == []
    assert not Notification.objects.exists()

    with transaction.atomic():
        with undone():
            Item.objects.bulk_create(items(1, 2))
        Item.objects.bulk_create(items(3))
    names = [name for name, _ in bell.rung()]
    assert sorted(names) == [ITEMS, NEWS]
    assert [one.payload["new"]["number"] for one in Notification.objects.all()] == [3]


def test_a_failed_statement_sends_nothing(bell: Bell) -> None:
    """The write and its message succeed or fail together."""
    Item.objects.bulk_create(items(1))
    bell.rung()
    with pytest.raises(DatabaseError), transaction.atomic():
        sql("UPDATE app_item SET number = 1 / (number - 1)")
    assert bell.rung() == []


@pytest.mark.parametrize("letter", ["x", "ä", "名", "\\", '"'])
def test_a_row_that_is_too_long_for_a_notify_is_stored(bell: Bell, letter: str) -> None:
    """P13: the write succeeds, and the NOTIFY refers to the stored row."""
    name = letter * 8000
    Item.objects.create(name=name, number=7)
    (message,) = [json.loads(payload) for channel, payload in bell.rung() if channel == NEWS]
    stored = LongPayload.objects.get()
    assert message["$ref"] == stored.pk
    assert stored.payload["op"] == "INSERT"
    assert stored.payload["new"]["name"] == name


def test_rows_around_the_limit(bell: Bell) -> None:
    """P13: bytes count, not characters; either way the message arrives."""
    Item.objects.bulk_create([Item(name="ü" * length) for length in range(3800, 3950)])
    messages = [json.loads(payload) for channel, payload in bell.rung() if channel == NEWS]
    referred = [message["$ref"] for message in messages if "$ref" in message]
    whole = [message for message in messages if "new" in message]
    assert len(messages) == 150
    assert len(whole) > 20
    assert len(referred) > 20
    assert sorted(referred) == sorted(LongPayload.objects.values_list("pk", flat=True))
