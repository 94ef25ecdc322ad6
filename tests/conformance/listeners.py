"""Listeners that write into the ledger what came, on which channel, and over which driver."""

from __future__ import annotations

from typing import Any

from django.db import connection

import pgpubsub_sql
from tests.app.channels import ItemChannel, ItemNews
from tests.app.listeners import behave
from tests.app.models import Entry, Item
from tests.conformance.channels import Durable, Ephemeral, Said, Shared

Notification = pgpubsub_sql.Notification


def entry(listener: str, notification: Notification, **data: Any) -> Entry:
    told = {"channel": notification.channel, "driver": connection.Database.__name__}
    return Entry(listener=listener, data=data | told)


@pgpubsub_sql.listener(Ephemeral)
@pgpubsub_sql.listener(Durable)
def hear(notification: Notification, context: dict, **fields: Any) -> None:
    said, number = repr(Said(**fields)), fields["number"]
    entry("hear", notification, number=number, said=said, context=dict(context)).save()


@pgpubsub_sql.listener(Ephemeral)
@pgpubsub_sql.listener(Durable)
async def hear_async(number: int, notification: Notification) -> None:
    await entry("hear_async", notification, number=number).asave()


@pgpubsub_sql.listener(Ephemeral)
@pgpubsub_sql.listener(Durable)
def hear_the_number(number: int, notification: Notification, extra: str = "a default") -> None:
    entry("hear_the_number", notification, number=number, extra=extra).save()


@pgpubsub_sql.listener(Ephemeral)
@pgpubsub_sql.listener(Durable)
def do_as_told(mood: str, notification: Notification) -> None:
    behave("good" if mood == "bad at first" and notification.attempts else mood)


@pgpubsub_sql.post_save_listener(ItemNews)
@pgpubsub_sql.post_save_listener(ItemChannel)
def hear_row(old: Item | None, new: Item, notification: Notification, context: dict) -> None:
    was = old and repr((old.name, old.amount, old.data))
    now = repr((new.name, new.amount, new.data))
    entry("hear_row", notification, was=was, now=now, context=dict(context)).save()


@pgpubsub_sql.listener(Shared, subscription="mail")
def send_mail(number: int, mood: str, notification: Notification) -> None:
    entry("send_mail", notification, number=number).save()
    behave(mood)


@pgpubsub_sql.batch_listener(Shared, subscription="search")
def index(messages: list[Shared], notifications: list[Notification]) -> None:
    """Index all at once, unless one of them says otherwise."""
    Entry.objects.bulk_create(
        entry("index", notification, number=message.number)
        for message, notification in zip(messages, notifications, strict=True)
    )
    if any(message.text == "not to be indexed" for message in messages):
        raise ValueError("One of these cannot be indexed.")
