"""Fixtures, serialized databases and flush, with watched tables and stored messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from pgpubsub_sql import ignore, notify
from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.models import LongPayload, Notification
from pgpubsub_sql.sql.ddl import create, drop
from pgpubsub_sql.sql.trigger import Trigger
from tests.app.channels import ItemChannel, Job
from tests.app.models import Item
from tests.ledger import sql

pytestmark = pytest.mark.django_db(transaction=True)


def dump(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
    call_command("dumpdata", *arguments, stdout=(output := StringIO()), **options)
    found: list[dict[str, Any]] = json.loads(output.getvalue())
    return found


@pytest.fixture
def load(tmp_path: Path) -> Callable[[list[dict[str, Any]]], None]:
    def load(objects: list[dict[str, Any]]) -> None:
        file = tmp_path / "fixture.json"
        file.write_text(json.dumps(objects))
        call_command("loaddata", str(file), verbosity=0)

    return load


def numbers() -> list[int]:
    return [sent.payload["number"] for sent in Notification.from_channel(Job).order_by("id")]


def reset_ids() -> None:
    """As reset_sequences does between tests."""
    for model in (Notification, LongPayload, Item):
        sql(f"ALTER TABLE {model._meta.db_table} ALTER COLUMN id RESTART WITH 1")


def test_dumpdata_excludes_messages_by_default(load: Any) -> None:
    """F22: loading it told of each row, and brought the messages of these rows besides."""
    Item.objects.create(name="watched")
    assert Notification.from_channel(ItemChannel).count() == 1
    dumped = dump(exclude=["rows", "conditions"])
    models = {one["model"] for one in dumped}
    assert {"app.item", "auth.permission"} <= models
    assert not {name for name in models if name.startswith("pgpubsub_sql.")}
    others = dump(exclude=["rows", "conditions", "app.item"])
    assert others == [one for one in dumped if one["model"] != "app.item"]
    call_command("flush", interactive=False, verbosity=0)
    load([one for one in dumped if one["model"] == "app.item"])
    assert Notification.from_channel(ItemChannel).count() == 1


def test_dumpdata_includes_messages_if_named(load: Any) -> None:
    """F22"""
    notify(Job(number=1))
    (dumped,) = dump("pgpubsub_sql")
    assert dumped["model"] == "pgpubsub_sql.notification"
    assert dump("pgpubsub_sql.Notification") == [dumped]
    Notification.objects.all().delete()
    load([dumped])
    assert numbers() == [1]
    notify(Job(number=2))
    assert numbers() == [1, 2]


def test_loaded_messages_overwrite_none(load: Any) -> None:
    """F22: it has the id of a message that was stored by then."""
    notify(Job(number=1))
    dumped = dump("pgpubsub_sql")
    Notification.objects.all().delete()
    reset_ids()
    sql("SELECT setval(pg_get_serial_sequence('pgpubsub_sql_notification', 'id'), %s)", 1)
    dumped[0]["pk"] = 2
    notify(Job(number=2))
    load(dumped)
    assert sorted(numbers()) == [1, 2]


def test_ids_continue_after_a_serialized_rollback() -> None:
    """F22: the sequence came to an id that was taken, and a write to a watched table failed."""
    notify(Job(number=1))
    LongPayload.objects.create(payload={}, expires_at="2030-01-01T00:00Z")
    serialized = connection.creation.serialize_db_to_string()
    call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=True)
    reset_ids()
    with ignore():
        connection.creation.deserialize_db_from_string(serialized)
    assert numbers() == [1]
    for number in range(2, 5):
        notify(Job(number=number))
        LongPayload.objects.create(payload={}, expires_at="2030-01-01T00:00Z")
    assert numbers() == [1, 2, 3, 4]


def test_loading_with_triggers_silenced_sends_nothing(load: Any) -> None:
    """F22"""
    Item.objects.create(name="watched")
    dumped = dump("app.item")
    Item.objects.all().delete()
    Notification.objects.all().delete()
    with ignore():
        load(dumped)
    assert Item.objects.count() == 1
    assert not Notification.objects.exists()


@pytest.fixture
def told_of_truncates() -> Iterator[Callable[..., None]]:
    """Install durable channels for TRUNCATE, and take them away."""
    made: list[Trigger] = []

    def watch(db_table: str, **timing: tuple[str, ...]) -> None:
        channel = f"truncated_{len(made)}"
        trigger = Trigger(channel=channel, model="app.any", durable=True, **timing)
        names = {"schema": "public", "helpers": "public", "app": "tests"}
        made.append(trigger)
        for statement in create(trigger, find_target(connection, trigger, db_table, **names)):
            sql(statement)

    yield watch
    for trigger in made:
        for statement in drop(trigger, schema="public"):
            sql(statement)


AFTER, BEFORE = {"after": ("truncate",)}, {"before": ("truncate",)}


@pytest.mark.parametrize("timing", [AFTER, BEFORE], ids=["after", "before"])
@pytest.mark.parametrize("reset_sequences", [True, False])
def test_flush_deletes_messages(
    told_of_truncates: Any, timing: dict[str, tuple[str, ...]], reset_sequences: bool
) -> None:
    """F22: the next test met the TRUNCATE with which the last one had ended."""
    told_of_truncates("app_item", **timing)
    notify(Job(number=1))
    call_command("flush", interactive=False, verbosity=0, reset_sequences=reset_sequences)
    assert not Notification.objects.exists()
    sql("TRUNCATE app_item")
    assert [one.payload["op"] for one in Notification.objects.all()] == ["TRUNCATE"]


def test_flush_works_in_a_transaction_and_with_partitions(told_of_truncates: Any) -> None:
    """F22"""
    sql("CREATE TABLE parts (id int) PARTITION BY LIST (id)")
    sql("CREATE TABLE parts_rest PARTITION OF parts DEFAULT")
    try:
        told_of_truncates("parts", **AFTER)
        with transaction.atomic(), transaction.atomic():
            sql("TRUNCATE parts, pgpubsub_sql_notification")
        assert not Notification.objects.exists()
        with transaction.atomic():
            Notification.objects.all().delete()
            sql("TRUNCATE parts, app_item")
        assert Notification.objects.count() == 1
    finally:
        sql("DROP TABLE parts")
