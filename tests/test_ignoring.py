"""ignore(): writes without messages. For its SQL see ``tests/triggers/test_ignore.py``."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from pgpubsub_sql import Notification, TriggerChannel, ignore, notify
from pgpubsub_sql.errors import ChannelNotFound, NotReady, OptionError
from tests.app.channels import ItemChannel, ItemNews, Job
from tests.app.models import Item
from tests.ledger import sql
from tests.registries import Ear, Undo, blank, undone  # noqa: F401 - a fixture


def in_force() -> Any:
    """Return what is ignored, as the database sees it."""
    ((setting,),) = sql("SELECT current_setting('pgpubsub.ignore', true)")
    return json.loads(setting or "[]")


def told() -> list[str]:
    """Return the names of the items that a durable channel told of."""
    payloads = Notification.objects.order_by("id").values_list("payload", flat=True)
    return [(payload["new"] or payload["old"])["name"] for payload in payloads]


@pytest.mark.parametrize(
    "channel",
    [ItemChannel, "app.ItemChannel", "tests.app.channels.ItemChannel", TriggerChannel, None],
)
@pytest.mark.django_db
def test_triggers_are_silent_in_the_block(channel: Any) -> None:
    Item.objects.create(name="before")
    with ignore(channel) if channel else ignore():
        item = Item.objects.create(name="within")
        Item.objects.update(number=1)
        item.delete()
    Item.objects.create(name="after")
    assert told() == ["before", "after"]


def test_other_channels_still_send(transactional_db: None) -> None:
    with Ear(ItemNews.postgres_name()) as ear:
        with ignore(ItemChannel):
            Item.objects.create(name="news")
        with ignore(ItemNews):
            Item.objects.create(name="no news")
        assert [message["new"]["name"] for message in ear.messages()] == ["news"]
    assert told() == ["no news"]


@pytest.mark.django_db
def test_notify_still_sends() -> None:
    with ignore():
        notify(Job, number=1)
        sql("SELECT pgpubsub_notify('any', '{}')")
    assert Notification.objects.count() == 2


@pytest.mark.usefixtures("blank")
@pytest.mark.django_db
def test_nested_blocks_add_up() -> None:
    class Base(TriggerChannel):
        channel_name = "base"

    class Child(Base):
        channel_name = 'a "child" äöü'

    with ignore("base"):
        assert in_force() == ['a "child" äöü', "base"]
        with ignore(Child):
            assert in_force() == ['a "child" äöü', "base"]
        with ignore():
            assert in_force() is True
            with ignore(Child):
                assert in_force() is True
            assert in_force() is True
        assert in_force() == ['a "child" äöü', "base"]
    with ignore(Child), ignore(Base):
        assert in_force() == ['a "child" äöü', "base"]
    assert in_force() == []


@pytest.mark.parametrize("outer", ["not JSON", "1", '{"a": 1}', '["app.ItemNews", 1]', "", " true"])
@pytest.mark.django_db
def test_a_setting_made_by_sql_is_restored(outer: str) -> None:
    sql("SELECT set_config('pgpubsub.ignore', %s, true)", outer)
    with ignore(ItemChannel):
        Item.objects.create(name="a")
    assert sql("SELECT current_setting('pgpubsub.ignore')") == [(outer,)]
    assert told() == []


def test_a_block_opens_a_transaction_and_ends_with_it(transactional_db: None) -> None:
    """P23"""
    with ignore(ItemChannel):
        assert connection.in_atomic_block
        Item.objects.create(name="within")
    with ExitStack() as stack:
        stack.enter_context(undone())
        stack.enter_context(ignore(ItemChannel))
        Item.objects.create(name="undone")
    Item.objects.create(name="after")
    assert told() == ["after"]


@pytest.mark.django_db
def test_a_handled_exception_ends_the_block() -> None:
    with transaction.atomic():
        with pytest.raises(Undo), ignore(ItemChannel):
            raise Undo
        Item.objects.create(name="after")
    assert told() == ["after"]


@pytest.mark.django_db
def test_a_failed_transaction_raises_its_own_error() -> None:
    with undone():
        with pytest.raises(DatabaseError, match="no_such_column"), ignore():
            sql("SELECT no_such_column")
        with ignore():
            pass  # as what handles an error may do
    assert in_force() == []


def test_statements_are_not_changed(binding_on_the_server: None) -> None:
    """T12: the peer prepends SQL to each, which breaks executemany and server-side binding."""
    insert = "INSERT INTO app_item (name, number, amount, data) VALUES (%s, %s, 0, '{}')"
    with CaptureQueriesContext(connection) as queries, ignore(ItemChannel):
        with connection.cursor() as cursor:
            cursor.executemany(insert, [("a", 1), ("b", 2)])
        with connection.chunked_cursor() as cursor:
            cursor.execute("SELECT name FROM app_item WHERE number = %s", [2])
            assert cursor.fetchall() == [("b",)]
        Item.objects.create(name="c")
    statements = " ".join(query["sql"] for query in queries.captured_queries)
    assert re.findall("current_setting|set_config", statements) == [
        "current_setting",
        "set_config",
        "set_config",  # as it was
    ]
    assert told() == []


# What is refused.


@pytest.mark.django_db
def test_channels_without_triggers_are_refused() -> None:
    with pytest.raises(ChannelNotFound, match=r"Did you mean 'app\.ItemChannel'"):
        ignore("app.ItemChanel")
    with pytest.raises(ChannelNotFound, match=r"channels\.Job has no trigger.*only notify\(\)"):
        ignore(ItemChannel, Job)  # type: ignore[arg-type]
    with pytest.raises(ChannelNotFound, match="is not a channel"):
        ignore(Item)  # type: ignore[arg-type]
    assert in_force() == []


def test_a_database_that_is_not_postgresql_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lite = connections.settings["default"] | {"ENGINE": "django.db.backends.sqlite3"}
    monkeypatch.setitem(connections.settings, "lite", lite)
    try:
        for send in (lambda: notify(Job(1), using="lite"), ignore(using="lite").__enter__):
            with pytest.raises(NotReady, match=r"'lite' is SQLite.*name a PostgreSQL alias"):
                send()
    finally:
        del connections["lite"]


@pytest.mark.usefixtures("blank")
@pytest.mark.django_db
def test_a_channel_that_cannot_be_ignored_raises() -> None:
    """F64: asking for it is an error, by whatever name; asking for all silences the others."""

    class Base(TriggerChannel):
        channel_name = "base"

    class Audit(Base):
        ignorable = False

    for named in (Audit, Base, TriggerChannel):
        with pytest.raises(OptionError, match=r"Audit cannot be ignored: it sets ignorable = Fal"):
            ignore(named)
    with ignore():
        assert in_force() is True
