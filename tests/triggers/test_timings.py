"""Triggers that fire before the fact, and the event that has no rows."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from pgpubsub_sql.models import Notification
from pgpubsub_sql.rows import decode_change
from pgpubsub_sql.sql.ddl import Target, create
from pgpubsub_sql.sql.trigger import EVENTS, Trigger
from tests.app.models import Item


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def item(db: None) -> Item:
    """A stored item, of whose table nothing but the timings below is watched."""
    item = Item.objects.create(name="one")
    Notification.objects.all().delete()
    for statement in create(
        Trigger(channel="early", model="app.item", before=EVENTS, durable=True),
        Target(db_table="app_item", schema="public", helpers="public", app="tests"),
    ):
        execute(statement)
    return item


def told() -> list[tuple[str, str, Any, Any]]:
    """Return what was sent on the channel: time, event, and the names in both rows."""
    payloads = Notification.objects.filter(channel="early").values_list("payload", flat=True)
    name = {True: lambda row: row["name"], False: lambda row: None}
    return [
        (p["when"], p["op"], *(name[bool(p[s])](p[s]) for s in ("old", "new"))) for p in payloads
    ]


def test_a_row_whose_deletion_is_listened_to_is_deleted(item: Item) -> None:
    """P1: in the peer the trigger returns NEW, which is NULL, and the row silently stays."""
    item.delete()
    assert not Item.objects.exists()
    assert told() == [("BEFORE", "DELETE", "one", None)]


def test_inserts_and_updates_go_through_as_they_are(item: Item) -> None:
    Item.objects.create(name="two")
    Item.objects.filter(pk=item.pk).update(name="uno")
    assert set(Item.objects.values_list("name", flat=True)) == {"uno", "two"}
    assert told() == [("BEFORE", "INSERT", None, "two"), ("BEFORE", "UPDATE", "one", "uno")]


def test_a_row_that_turns_out_to_be_there(item: Item) -> None:
    """Before the fact nobody knows that an insert will meet a conflict: it is told as one."""
    conflict = "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    execute(
        f"INSERT INTO app_item (id, name, number, amount, data) "
        f"VALUES ({item.pk}, 'uno', 0, 0, '{{}}') {conflict}"
    )
    assert told() == [("BEFORE", "INSERT", None, "uno"), ("BEFORE", "UPDATE", "one", "uno")]


def test_a_truncate_is_one_message_without_rows(item: Item) -> None:
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    execute("TRUNCATE app_item")
    assert not Item.objects.exists()
    assert told() == [("BEFORE", "TRUNCATE", None, None)]
    raw = '{"op": "TRUNCATE", "when": "AFTER", "old": null, "new": null, "context": {}}'
    change = decode_change(Item, raw, using="default")
    assert (change.op, change.old, change.new) == ("TRUNCATE", None, None)


def test_truncate_after_the_fact(db: None) -> None:
    for statement in create(
        Trigger(channel="early", model="app.item", after=("truncate",), durable=True),
        Target(db_table="app_item", schema="public", helpers="public", app="tests"),
    ):
        execute(statement)
    execute("TRUNCATE app_item")
    assert told() == [("AFTER", "TRUNCATE", None, None)]
