"""Rows of which the model's own code makes no instance."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.db.models.signals import post_init
from django.utils import timezone

import pgpubsub_sql
from pgpubsub_sql.migrations_ops.declared_triggers import declared_triggers, specify
from pgpubsub_sql.models import Notification
from pgpubsub_sql.sql.ddl import drop
from pgpubsub_sql.worker.delivery import Delivery
from tests.ledger import sql
from tests.registries import blank  # noqa: F401 - a fixture
from tests.rows.models import Licence, Picture, Pizzeria, Plain, Restaurant
from tests.triggers.tables import watch
from tests.workers import hear

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("blank")]


@pytest.fixture(autouse=True)
def uninstalled() -> Iterator[None]:
    """Take the triggers away, which no test rolls back."""
    yield
    (trigger,) = (one for one in declared_triggers().values())
    for statement in drop(trigger, schema="public"):
        sql(statement)


def listening(watched: type[Model], columns: tuple[str, ...]) -> tuple[Delivery, list[Any]]:
    """Install a durable channel; return what delivers it, and what its listener gets."""
    heard: list[Any] = []

    @dataclass
    class Watched(pgpubsub_sql.TriggerChannel):
        model = watched
        lock_notifications = True
        channel_name = "rows.Watched"

    Watched.columns = columns
    pgpubsub_sql.trigger_listener(Watched, events=("insert", "delete"))(
        lambda old, new: heard.append(old or new)
    )
    options = {"channel": "rows.Watched", "columns": specify(Watched).columns}
    watch(watched._meta.db_table, "insert", "delete", **options)
    return Delivery([Watched], using="default", schema="public"), heard


@contextmanager
def initialized(model: type[Model], receiver: Callable[[Any], Any]) -> Iterator[None]:
    """Do something whenever an instance of *model* is made, as trackers of changes do."""

    def receive(instance: Any, **kwargs: Any) -> None:
        receiver(instance)

    post_init.connect(receive, sender=model)
    try:
        yield
    finally:
        post_init.disconnect(receive, sender=model)


def test_fields_that_the_models_own_code_needs_are_sent() -> None:
    """F17: its instance was made of a row that is gone, so the listener never ran."""
    delivery, heard = listening(Picture, ("image",))
    picture = Picture.objects.create(image="a/b.png", width=3, height=4)
    picture.delete()
    while delivery.handle_stored("rows.Watched"):
        pass
    assert [(one.image.name, one.width, one.height) for one in heard] == [("a/b.png", 3, 4)] * 2
    assert not Notification.objects.exists()


def fail(instance: Any) -> None:
    raise KeyError("out of order")


UNBUILDABLE: dict[str, tuple[Callable[[], Any], tuple[str, ...], Callable[[Any], Any], str]] = {
    "a field that did not travel": (
        lambda: Licence.objects.create(number="A 1"),
        (),
        lambda licence: licence.number,
        r"the field 'number', .* Add it to columns, or remove it from exclude; or do not read",
    ),
    "a field of the parent": (
        lambda: Restaurant.objects.create(name="Chez", stars=2),
        ("stars",),
        lambda restaurant: restaurant.name,
        r"the field 'name', .* It never travels, .*: do not read it in __init__\(\)",
    ),
    "a field of the parent's parent": (
        lambda: Pizzeria.objects.create(name="Da", stars=1, oven="wood"),
        (),
        lambda pizzeria: pizzeria.name,
        "the field 'name', .* It never travels",
    ),
    "whatever else": (
        lambda: Plain.objects.create(title="x", price=1, created=timezone.now()),
        ("title",),
        fail,
        r"No instance of rows.Plain can be made of the row \(KeyError: 'out of order'\)",
    ),
}


@pytest.mark.parametrize(
    ("write", "columns", "receiver", "said"), UNBUILDABLE.values(), ids=UNBUILDABLE
)
def test_a_row_that_cannot_be_built_is_parked_at_once(
    write: Callable[[], Any], columns: tuple[str, ...], receiver: Any, said: str
) -> None:
    """F17: it was retried for hours, as if a listener had failed."""
    row = write()
    delivery, heard = listening(type(row), columns)
    row.delete()
    with initialized(type(row), receiver):
        delivery.handle_stored("rows.Watched")
    (parked,) = Notification.objects.all()
    assert parked.available_at is None
    assert parked.attempts == 1
    last = parked.last_error.strip().rpartition("\n")[2]
    assert "rows.Watched: No instance of" in last
    assert re.search(said, last), last
    assert "Traceback" in parked.last_error
    assert not heard
    Notification.objects.all().replay()
    delivery.handle_stored("rows.Watched")
    assert len(heard) == 1


def test_the_rest_of_the_batch_is_handled() -> None:
    """F17"""
    delivery, heard = listening(Licence, ())
    kept = Licence.objects.create(number="kept")
    Licence.objects.create(number="gone").delete()
    with initialized(Licence, lambda licence: licence.number):
        delivery.handle_stored("rows.Watched")
        assert {one.number for one in heard} == {"kept"}
        assert [one.pk for one in heard] == [kept.pk]
    assert Notification.objects.parked().count() == 2


def test_a_database_error_while_building_is_retried() -> None:
    """F17: the next attempt may well succeed."""
    delivery, heard = listening(Licence, ("number",))
    Licence.objects.create(number="A 1")

    def slow(instance: Any) -> None:
        sql("SET LOCAL statement_timeout = 1")
        sql("SELECT pg_sleep(30)")

    with initialized(Licence, slow):
        delivery.handle_stored("rows.Watched")
    assert Notification.objects.retrying().count() == 1
    Notification.objects.all().retry()
    delivery.handle_stored("rows.Watched")
    assert [one.number for one in heard] == ["A 1"]


def test_an_ephemeral_row_that_cannot_be_built_is_logged_and_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F17"""
    delivery, heard = listening(Licence, ())
    payload = json.dumps({"op": "DELETE", "old": {"licence_id": 1}, "new": None})
    (channel,) = delivery.channels.values()
    channel.lock_notifications = False
    delivery = Delivery([channel], using="default", schema="public")
    with initialized(Licence, lambda licence: licence.number), caplog.at_level(logging.ERROR):
        hear(delivery, "rows.Watched", payload)
    assert "cannot be read, and was dropped: rows.Watched: No instance of" in caplog.text
    assert not heard
    assert connection.is_usable()
