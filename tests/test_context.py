"""The notification context: what travels with messages, and how long it lasts."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from pgpubsub_sql import (
    Channel,
    Notification,
    listener,
    notification_context,
    notify,
    notify_many,
    set_notification_context,
)
from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import PayloadError, TransactionRequired
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import ItemChannel, Job
from tests.app.models import Entry, Item
from tests.ledger import calls, sql
from tests.registries import Undo, blank, undone  # noqa: F401 - a fixture


def execute(sql: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)


def break_the_transaction() -> None:
    execute("SELECT no_such_column")


def in_force() -> Any:
    """Return the context as the database sees it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pgpubsub_context_v1()::text")
        return cursor.fetchone()[0]


# set_notification_context.


@pytest.mark.django_db
def test_set_context_replaces_the_context() -> None:
    set_notification_context({"a": 1})
    set_notification_context({"b": 2}, using="default")
    assert in_force() == '{"b": 2}'
    set_notification_context({})
    assert in_force() == "{}"


def test_set_context_needs_a_transaction(transactional_db: None) -> None:
    with pytest.raises(TransactionRequired, match=r"transaction\.atomic\(\).*notification_context"):
        set_notification_context({"a": 1})
    assert in_force() == "{}"


def test_set_context_ends_with_the_transaction(transactional_db: None) -> None:
    """P23: the peer's lasts as long as the connection, and leaks into the next request."""
    with transaction.atomic():
        set_notification_context({"a": 1})
    assert in_force() == "{}"
    with transaction.atomic():
        notify(Job, number=1)
        Item.objects.create(name="a")
    contexts = [payload.get("$context", payload.get("context")) for payload in payloads()]
    assert contexts[0] is None
    assert not any(contexts)


def payloads() -> list[dict[str, Any]]:
    return list(Notification.objects.values_list("payload", flat=True))


def test_set_context_is_undone_by_rollback(transactional_db: None) -> None:
    """P23"""
    with undone():
        set_notification_context({"a": 1})
    assert in_force() == "{}"


@pytest.mark.django_db
def test_set_context_is_undone_with_its_savepoint() -> None:
    set_notification_context({"a": 1})
    with undone():
        set_notification_context({"b": 2})
    assert in_force() == '{"a": 1}'


def test_set_context_accepts_a_transaction_that_django_did_not_open(transactional_db: None) -> None:
    """With autocommit off there always is one, and it may have failed as well."""
    transaction.set_autocommit(False)
    try:
        set_notification_context({"a": 1})
        assert in_force() == '{"a": 1}'
        with notification_context({"b": 2}):
            assert in_force() == '{"a": 1, "b": 2}'
        assert in_force() == '{"a": 1}'
        with pytest.raises(DatabaseError):
            break_the_transaction()
        set_notification_context({"b": 2})
        transaction.rollback()
        assert in_force() == "{}"
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.django_db
def test_set_context_does_nothing_in_a_failed_transaction() -> None:
    """As the predecessor: where Django knows of the failure, and where only Postgres does."""
    with undone():
        with pytest.raises(DatabaseError):
            break_the_transaction()
        assert not connection.needs_rollback
        set_notification_context({"a": 1})
    with transaction.atomic():
        transaction.set_rollback(True)
        set_notification_context({"a": 1})
    assert in_force() == "{}"


@pytest.mark.parametrize(
    ("context", "sent"),
    [
        ({"text": "O'Hara \" \\ %s ; \\u0000 ä 🎉"}, None),
        ({"nested": {"list": [1, 1.5, None, True]}}, None),
        ({"day": datetime.date(2026, 1, 31)}, {"day": "2026-01-31"}),
        (
            {"id": uuid.UUID(int=1), "d": Decimal("1.10")},
            {"id": str(uuid.UUID(int=1)), "d": "1.10"},
        ),
    ],
)
@pytest.mark.django_db
def test_context_travels_as_json(context: dict[str, Any], sent: dict[str, Any] | None) -> None:
    set_notification_context(context)
    notify(Job, number=1)
    Item.objects.create(name="a")
    assert [p.get("$context", p.get("context")) for p in payloads()] == [sent or context] * 2


@pytest.mark.parametrize(
    "context",
    [{"a": float("nan")}, {"a": object()}, {"a": "\0"}, {"a\\\0": 1}, {"a": "\ud800"}, {"a": b""}],
)
@pytest.mark.django_db
def test_context_that_json_cannot_carry_is_refused(context: dict[str, Any]) -> None:
    """The database ignores a setting that is no JSON, so the sender has to hear of it."""
    with pytest.raises(PayloadError, match="context"):
        set_notification_context(context)
    with pytest.raises(PayloadError, match="context"), notification_context(context):
        raise AssertionError("not reached")
    assert in_force() == "{}"


# notification_context.


def test_a_context_block_opens_a_transaction(transactional_db: None) -> None:
    with notification_context({"a": 1}):
        assert connection.in_atomic_block
        assert in_force() == '{"a": 1}'
    assert not connection.in_atomic_block
    assert in_force() == "{}"


def test_an_exception_rolls_back_the_blocks_own_transaction(transactional_db: None) -> None:
    with suppress(Undo), notification_context({"a": 1}):
        notify(Job, number=1)
        raise Undo
    assert payloads() == []
    assert in_force() == "{}"


@pytest.mark.django_db
def test_a_context_block_merges_and_restores() -> None:
    with notification_context({"a": 1, "b": 1}):
        with notification_context({"b": 2, "c": 2}, using="default"):
            assert in_force() == '{"a": 1, "b": 2, "c": 2}'
        assert in_force() == '{"a": 1, "b": 1}'
    assert in_force() == "{}"


@pytest.mark.parametrize("outer", ['{ "a":  1.10 }', "not JSON", "[1]", ""])
@pytest.mark.django_db
def test_a_setting_made_by_sql_is_restored(outer: str) -> None:
    """P23: what is not JSON is ignored, and is not ours to repair."""
    execute("SELECT set_config('pgpubsub.notification_context', %s, true)", outer)
    with notification_context({"b": 2}):
        assert '"b": 2' in in_force()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('pgpubsub.notification_context')")
        assert cursor.fetchone() == (outer,)


@pytest.mark.parametrize(
    "setting", ["no JSON", "[1]", '"text"', "1", "null", '{"a": ', "[" * 50000]
)
@pytest.mark.django_db
def test_a_setting_that_is_no_object_fails_no_write(setting: str) -> None:
    """P23: in the peer a value that is not JSON aborts every write."""
    execute("SELECT set_config('pgpubsub.notification_context', %s, true)", setting)
    Item.objects.create(name="a")
    notify(Job, number=1)
    assert len(payloads()) == 2
    assert not any(p.get("$context", p.get("context")) for p in payloads())
    with notification_context({"a": 1}):
        assert in_force() == '{"a": 1}'


@pytest.mark.django_db
def test_a_handled_exception_leaves_the_transaction_usable() -> None:
    """A second atomic() within the caller's would mark all of it for rollback."""
    with transaction.atomic():
        with notification_context({"a": 1}):
            try:
                with notification_context({"b": 2}):
                    notify(Job, number=1)
                    raise Undo
            except Undo:
                pass
            assert in_force() == '{"a": 1}'
            notify(Job, number=2)
        assert in_force() == "{}"
    assert [p["$context"] for p in payloads()] == [{"a": 1, "b": 2}, {"a": 1}]


@pytest.mark.django_db
def test_an_aborted_transaction_raises_its_own_error() -> None:
    """Putting back the context would fail too, and would hide what went wrong."""
    with (
        pytest.raises(DatabaseError, match="no_such_column") as caught,
        transaction.atomic(),
        notification_context({"a": 1}),
    ):
        break_the_transaction()
    assert isinstance(caught.value.__cause__, connection.Database.Error)
    assert caught.value.__context__ is caught.value.__cause__
    assert in_force() == "{}"


@pytest.mark.django_db
def test_a_savepoint_around_it_restores_the_context_after_an_error() -> None:
    set_notification_context({"a": 1})
    with pytest.raises(DatabaseError), transaction.atomic(), notification_context({"b": 2}):
        break_the_transaction()
    assert in_force() == '{"a": 1}'


def test_a_lost_connection_raises_its_own_error(transactional_db: None) -> None:
    lost = r"terminating connection|closed the connection"
    with pytest.raises(DatabaseError, match=lost), notification_context({"a": 1}):
        execute("SELECT pg_terminate_backend(pg_backend_pid())")
    connection.close()
    assert in_force() == "{}"


@pytest.mark.django_db
def test_a_context_block_only_runs_in_an_aborted_transaction() -> None:
    """So that what handles an error may use it, as it may use set_notification_context()."""
    set_notification_context({"a": 1})
    execute("SAVEPOINT intact")
    with pytest.raises(DatabaseError):
        break_the_transaction()
    with notification_context({"b": 2}):
        execute("ROLLBACK TO SAVEPOINT intact")
        assert in_force() == '{"a": 1}'
    assert in_force() == '{"a": 1}'


# PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False, the predecessor's way.


@pytest.fixture
def unbound(transactional_db: None, settings: Any) -> Iterator[None]:
    settings.PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False
    yield
    connection.close()


def test_an_unbound_context_outlasts_transactions(unbound: None) -> None:
    set_notification_context({"a": 1})
    Item.objects.create(name="a")
    with transaction.atomic():
        set_notification_context({"b": 2})
    notify(Job, number=1)
    with undone():
        set_notification_context({"c": 3})
    notify(Job, number=2)
    assert [p.get("$context", p.get("context")) for p in payloads()] == [
        *({"a": 1}, {"b": 2}, {"b": 2})
    ]
    connection.close()
    assert in_force() == "{}"


def test_an_unbound_context_block_still_restores(unbound: None) -> None:
    set_notification_context({"a": 1})
    with notification_context({"b": 2}):
        assert in_force() == '{"a": 1, "b": 2}'
    assert in_force() == '{"a": 1}'


@pytest.mark.django_db
def test_an_unbound_context_is_ignored_in_a_failed_transaction(settings: Any) -> None:
    settings.PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False
    with undone():
        with pytest.raises(DatabaseError):
            break_the_transaction()
        set_notification_context({"a": 1})
    assert in_force() == "{}"


# From SQL.


def test_sql_can_set_the_context_of_its_transaction(transactional_db: None) -> None:
    with transaction.atomic():
        execute("SET LOCAL pgpubsub.notification_context = '{\"tenant\": 7}'")
        execute("INSERT INTO app_item (name, number, amount, data) VALUES ('a', 0, 0, '{}')")
    (payload,) = payloads()
    assert payload["context"] == {"tenant": 7}
    assert in_force() == "{}"


# To listeners.


def deliver(*channels: type[BaseChannel]) -> None:
    delivery = Delivery(channels, using="default")
    while any(delivery.handle_stored(name) for name in delivery.channels):
        pass


def test_context_reaches_only_listeners_of_its_messages(transactional_db: None) -> None:
    """P23: over a connection that persists, no request sees what the one before has set."""
    item = Item.objects.create(name="a")
    for request in (1, 2, None):
        with transaction.atomic():
            if request:
                set_notification_context({"request": request})
            Item.objects.filter(pk=item.pk).update(number=1)
            notify(Job, number=1)
    deliver(Job, ItemChannel)
    contexts = [{"request": 1}, {"request": 2}, {}]
    assert [call["context"] for call in calls("item_updated")] == contexts
    assert [call["context"] for call in calls("do_job")] == contexts


def test_a_listeners_context_does_not_reach_the_next_message(
    transactional_db: None,
    blank: None,  # noqa: F811
) -> None:
    """P23: the messages of a batch share a transaction."""

    @dataclass
    class Sale(Channel):
        number: int
        lock_notifications = True

    @listener(Sale)
    def sell(number: int) -> None:
        Entry.objects.create(listener="before", data=in_force())
        Item.objects.create(name="heard")
        set_notification_context({"left by": number})
        sql("SET LOCAL pgpubsub.ignore = 'true'")

    with notification_context({"request": 1}):
        notify_many([Sale(1), Sale(2)])
    deliver(Sale)
    assert calls("before") == ["{}", "{}"]
    items = Notification.from_channel(ItemChannel).values_list("payload__context", flat=True)
    assert list(items) == [{}, {}]


@pytest.mark.parametrize(("is_passed", "received"), [(False, ["old"]), (True, ["context", "old"])])
def test_context_is_passed_in_kwargs_if_the_setting_says_so(
    transactional_db: None, settings: Any, is_passed: bool, received: list[str]
) -> None:
    """As in the predecessor: for who takes **kwargs; who names it has it anyhow."""
    settings.PGPUBSUB_PASS_CONTEXT_TO_LISTENERS = is_passed
    with notification_context({"a": 1}):
        Item.objects.create(name="a").save()
    deliver(ItemChannel)
    assert [call["kwargs"] for call in calls("item_saved")] == [received, received]
    assert [call["context"] for call in calls("item_updated")] == [{"a": 1}]
