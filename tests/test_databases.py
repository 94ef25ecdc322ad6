"""Several databases in one project: each has its own messages, context, silence and workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

import pgpubsub_sql
from pgpubsub_sql import (
    Channel,
    Notification,
    ignore,
    notification_context,
    notify,
    notify_many,
    process_stored_notifications,
    set_notification_context,
)
from pgpubsub_sql.errors import TransactionRequired
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.doorbell import Notify
from tests.app.channels import ItemChannel, Job, Shout
from tests.app.models import Entry, Item
from tests.conftest import Listen, eventually
from tests.ledger import calls
from tests.registries import Ear, Undo, blank, undone  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Elsewhere:
    """A router that puts notifications into the other database."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model is Notification else None


@pytest.fixture
def routed(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]


def payloads(using: str) -> list[dict[str, Any]]:
    rows = Notification.objects.using(using).order_by("id")
    return list(rows.values_list("payload", flat=True))


def contexts(using: str) -> list[Any]:
    return [payload.get("$context", payload.get("context")) for payload in payloads(using)]


def send_everywhere() -> None:
    for using in ("default", "other"):
        notify(Job(1), using=using)
        Item.objects.using(using).create(name=using)


# Sending.


def test_a_message_leaves_where_it_is_told_to() -> None:
    with Ear("app.Shout", using="other") as other, Ear("app.Shout") as default:
        notify(Shout(1), using="other")
        notify_many([Shout(2), Job(2)], using="other")
        assert [message["number"] for message in other.messages()] == [1, 2]
        assert default.notifies() == []
    assert [payload["number"] for payload in payloads("other")] == [2]
    assert payloads("default") == []


def test_a_router_says_where_unless_the_sender_does(routed: None) -> None:
    notify(Job, number=1)
    notify_many([Job(2)])
    notify(Job(3), using="default")
    with notification_context({"a": 1}):
        notify(Job, number=4)
    with transaction.atomic("other"):
        set_notification_context({"a": 2})
        notify(Job, number=5)
    with ignore():
        Item.objects.using("other").create(name="unheard")
        Item.objects.create(name="heard")
    assert [payload["number"] for payload in payloads("other")] == [1, 2, 4, 5]
    assert contexts("other") == [None, None, {"a": 1}, {"a": 2}]
    assert len(payloads("default")) == 2


def test_what_is_stored_is_changed_where_it_is_written(routed: None) -> None:
    """Though a router has it read elsewhere, as of a replica."""
    notify(Job(1), using="other")
    notify(Job(2), using="default")
    with Ear("app.Job", using="other") as other, Ear("app.Job") as default:
        assert Notification.objects.replay() == 1
        assert other.notifies() == [Notify("app.Job", "")]
        assert default.notifies() == []
    assert Notification.objects.discard() == 1
    assert Notification.objects.using("default").discard() == 1
    assert payloads("other") == payloads("default") == []


def test_workers_of_one_database_are_rung() -> None:
    with Ear("app.Job", using="other") as other, Ear("app.Job") as default:
        process_stored_notifications(using="other")
        assert other.notifies() == [Notify("app.Job", "")]
        assert default.notifies() == []


# What a transaction says is said to its own database.


def test_each_database_has_a_context_of_its_own() -> None:
    with notification_context({"a": 1}), notification_context({"b": 2}, using="other"):
        send_everywhere()
        with notification_context({"c": 3}, using="other"):
            send_everywhere()
        send_everywhere()
    send_everywhere()
    assert contexts("default") == [{"a": 1}] * 6 + [None, {}]
    assert contexts("other") == [
        *[{"b": 2}] * 2,
        *[{"b": 2, "c": 3}] * 2,
        *[{"b": 2}] * 2,
        None,
        {},
    ]


def test_a_transaction_of_another_database_will_not_do() -> None:
    with transaction.atomic("other"):
        with pytest.raises(TransactionRequired):
            set_notification_context({"a": 1})
        set_notification_context({"a": 1}, using="other")


def test_what_is_undone_in_one_is_kept_in_the_other() -> None:
    with notification_context({"a": 1}):
        with undone("other"):
            set_notification_context({"b": 2}, using="other")
        send_everywhere()
    assert contexts("default") == [{"a": 1}] * 2
    assert contexts("other") == [None, {}]


def test_one_is_silent_while_the_other_is_heard() -> None:
    with ignore(ItemChannel, using="other"):
        send_everywhere()
    assert len(payloads("default")) == 2
    assert len(payloads("other")) == 1


# Receiving.


@pytest.fixture
def failing_channel(blank: None) -> Any:  # noqa: F811
    """A channel whose listener writes beside its message, and fails the first time."""

    class Sale(Channel):
        channel_name = "sale"
        lock_notifications = True

    @pgpubsub_sql.listener(Sale)
    def sold(notification: Notification) -> None:
        Entry.objects.using(notification._state.db).create(listener="sold")
        if not notification.attempts:
            raise Undo

    return Sale


def test_a_listener_learns_which_database_its_message_is_of(failing_channel: Any) -> None:
    """So that what it writes there is undone, or done, together with the message."""
    notify(failing_channel(), using="other")
    delivery = Delivery([failing_channel], using="other")
    delivery.handle_stored("sale")
    entries = Entry.objects.using("other")
    waiting = Notification.objects.using("other")
    assert (entries.count(), waiting.get().attempts) == (0, 1)
    waiting.update(available_at=waiting.get().created_at)
    delivery.handle_stored("sale")
    assert (entries.count(), waiting.count()) == (1, 0)
    assert Entry.objects.count() == 0


def test_rows_are_instances_of_their_database(blank: None) -> None:  # noqa: F811
    class Items(pgpubsub_sql.TriggerChannel):
        model = "app.Item"
        channel_name = ItemChannel.postgres_name()

    seen: list[Item] = []
    pgpubsub_sql.post_insert_listener(Items)(lambda new: seen.append(new))
    Item.objects.using("other").create(name="there")
    Delivery([Items], using="other").handle_stored("app.ItemChannel")
    (item,) = seen
    assert item._state.db == "other"
    item.refresh_from_db()
    assert item.name == "there"


def test_each_database_has_workers_of_its_own(listen: Callable[..., Listen]) -> None:
    here = listen().ready()
    there = listen("--database", "other", "--processes", "2").ready(2)
    send_everywhere()
    notify(Shout(1), using="default")
    notify(Shout(2), using="other")
    eventually(lambda: len(calls("item_inserted")) == 2 and len(calls("hear")) == 3)
    eventually(lambda: payloads("default") == payloads("other") == [])
    handled = Entry.objects.filter(listener="item_inserted").values_list("data__name", "pid")
    pids = dict(handled)
    assert set(pids) == {"default", "other"}
    assert f"[{pids['default']}]" in here.log
    assert f"[{pids['other']}]" in there.log
    assert sorted(call["number"] for call in calls("hear")) == [1, 2, 2]
    assert (here.stop(), there.stop()) == (0, 0)
