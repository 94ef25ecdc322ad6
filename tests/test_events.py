"""Row events, from the write to the listeners: which are called, and with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

import pgpubsub_sql
from pgpubsub_sql import Channel, Notification, TriggerChannel
from pgpubsub_sql.migrations_ops.declared_triggers import specify
from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.sql.ddl import create
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.models import Item
from tests.ledger import sql
from tests.registries import Undo, blank  # noqa: F401 - a fixture
from tests.workers import hear

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("blank")]

SHORTHANDS = (
    *("pre_insert", "pre_update", "pre_delete", "pre_save"),
    *("post_insert", "post_update", "post_delete", "post_save", "post_truncate"),
)
trigger_listener = pgpubsub_sql.trigger_listener
LISTENERS: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(pgpubsub_sql, f"{name}_listener") for name in SHORTHANDS},
    "trigger": trigger_listener,
    "pre_truncate": partial(trigger_listener, events=("truncate",), when="before"),
    "everything": pgpubsub_sql.listener,
}


@pytest.fixture(params=["statement", "row"])
def channel(request: pytest.FixtureRequest) -> type[TriggerChannel]:
    class Items(TriggerChannel):
        model = Item
        channel_name = "every event"
        lock_notifications = True
        level = request.param

    return Items


@pytest.fixture
def heard(channel: type[TriggerChannel]) -> Iterator[Counter[tuple[str, Any, Any]]]:
    """Whom a worker calls, and the names in both rows."""
    heard: Counter[tuple[str, Any, Any]] = Counter()

    def note(listener: str, old: Item | None, new: Item | None) -> None:
        heard[listener, old and old.name, new and new.name] += 1

    for name, decorate in LISTENERS.items():
        decorate(channel)(partial(note, name))
    trigger = specify(channel)
    names = {"schema": "public", "helpers": "public", "app": "tests"}
    for statement in create(trigger, find_target(connection, trigger, "app_item", **names)):
        sql(statement)
    yield heard
    sql(f'DROP FUNCTION "{trigger.function}" CASCADE')


def expected(*kinds: str, old: str | None = None, new: str | None = None) -> dict[Any, int]:
    """Return that listeners of these kinds were called once, and that of all events twice."""
    return {(kind, old, new): 1 for kind in kinds} | {("everything", old, new): 2}


def test_listeners_are_called_for_their_events_only(
    channel: type[TriggerChannel], heard: Counter[tuple[str, Any, Any]]
) -> None:
    """P1, P4: twelve ways to listen to one table, and two triggers an event."""
    item = Item.objects.create(name="one")
    Item.objects.update(name="two")
    item.delete()
    sql("TRUNCATE app_item")
    delivery = Delivery([channel], using="default")
    while delivery.handle_stored("every event"):
        pass
    assert not Notification.from_channel(channel).exists()
    assert heard == {
        **expected("pre_insert", "pre_save", "post_insert", "post_save", "trigger", new="one"),
        **expected(
            *("pre_update", "pre_save", "post_update", "post_save", "trigger"),
            old="one",
            new="two",
        ),
        **expected("pre_delete", "post_delete", old="two"),
        **expected("pre_truncate", "post_truncate"),
    }


def failing(told: list[Notification], **options: Any) -> type[Channel]:
    """Declare a channel whose listener notes what it is told of its message, and fails."""
    sale = type("Sale", (Channel,), {"channel_name": "sale", **options})

    @pgpubsub_sql.listener(sale)
    def sell(notification: Notification) -> None:
        told.append(notification)
        raise Undo

    return sale


def test_a_stored_message_is_the_same_in_every_attempt() -> None:
    """So its id can serve as a key by which others recognise repetitions."""
    told: list[Notification] = []
    sale = failing(told, lock_notifications=True)
    pgpubsub_sql.notify(sale)
    row = Notification.objects.get()
    for _ in range(2):
        Notification.objects.update(available_at=row.created_at)
        Delivery([sale], using="default").handle_stored("sale")
    assert [(one.pk, one.attempts, one.created_at) for one in told] == [
        (row.pk, 0, row.created_at),
        (row.pk, 1, row.created_at),
    ]


def test_an_ephemeral_message_has_no_id() -> None:
    told: list[Notification] = []
    before = timezone.now()
    hear(Delivery([failing(told)], using="default"), "sale", "{}")
    (sent,) = told
    assert (sent.pk, sent.channel, sent.attempts) == (None, "sale", 0)
    assert before <= sent.created_at <= timezone.now()
