"""BEFORE triggers, and TRUNCATE, which has no rows."""

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
    """A stored item, on whose table only the triggers below are installed."""
    item = Item.objects.create(name="one")
    Notification.objects.all().delete()
    for statement in create(
        Trigger(channel="early", model="app.item", before=EVENTS, durable=True),
        Target(db_table="app_item", schema="public", helpers="public", app="tests"),
    ):
        execute(statement)
    return item


def told() -> list[tuple[str, str, Any, Any]]:
    """Return the messages of the channel: timing, event, and the names in both rows."""
    payloads = Notification.objects.filter(channel="early").values_list("payload", flat=True)
    name = {True: lambda row: row["name"], False: lambda row: None}
    return [
        (p["when"], p["op"], *(name[bool(p[s])](p[s]) for s in ("old", "new"))) for p in payloads
    ]


def test_a_before_delete_trigger_lets_the_row_be_deleted(item: Item) -> None:
    """P1: the peer's trigger returns NEW, which is NULL, and the row silently stays."""
    item.delete()
    assert not Item.objects.exists()
    assert told() == [("BEFORE", "DELETE", "one", None)]


def test_before_triggers_leave_inserts_and_updates_unchanged(item: Item) -> None:
    Item.objects.create(name="two")
    Item.objects.filter(pk=item.pk).update(name="uno")
    assert set(Item.objects.values_list("name", flat=True)) == {"uno", "two"}
    assert told() == [("BEFORE", "INSERT", None, "two"), ("BEFORE", "UPDATE", "one", "uno")]


def test_a_before_trigger_tells_an_insert_that_meets_a_conflict(item: Item) -> None:
    """It is told as an INSERT, since a BEFORE trigger cannot know better."""
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


def test_an_after_truncate_trigger_is_one_message_without_rows(db: None) -> None:
    for statement in create(
        Trigger(channel="early", model="app.item", after=("truncate",), durable=True),
        Target(db_table="app_item", schema="public", helpers="public", app="tests"),
    ):
        execute(statement)
    execute("TRUNCATE app_item")
    assert told() == [("AFTER", "TRUNCATE", None, None)]
