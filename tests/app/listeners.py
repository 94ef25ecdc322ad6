"""Listeners that write down what they were called with."""

from __future__ import annotations

import functools
import os
from typing import Any

from django.db import connection

import pgpubsub_sql
from tests.app.channels import ItemChannel, ItemNews, Job, Shout, UserChannel
from tests.app.models import Entry, Item


def note(listener: str, **data: Any) -> None:
    """Write into the ledger, within the transaction of the message."""
    Entry.objects.create(listener=listener, data=data)


def behave(mood: str) -> None:
    """Do what a test wants a listener to do."""
    match mood:
        case "bad":
            raise RuntimeError("this listener is in a bad mood")
        case "broken-sql":
            connection.cursor().execute("SELECT no_such_column")
        case "dangling":
            connection.cursor().execute(
                "INSERT INTO blog_post (author_id, title, content) VALUES (-1, '', '')"
            )
        case "close":
            connection.close()
        case "die":
            os._exit(7)


@pgpubsub_sql.listener(Job)
def do_job(number: int, mood: str, notification: pgpubsub_sql.Notification, context: dict) -> None:
    note("do_job", number=number, attempts=notification.attempts, context=dict(context))
    behave(mood)


@pgpubsub_sql.listener(Shout)
def hear(**fields: Any) -> None:
    note("hear", number=fields["number"], fields=sorted(fields))
    behave(fields["mood"])


@pgpubsub_sql.listener("app.Shout")
def hear_only_number(number: int, extra: str = "a default") -> None:
    note("hear_only_number", number=number, extra=extra)


@pgpubsub_sql.post_insert_listener(ItemChannel)
def item_inserted(old: Item | None, new: Item) -> None:
    assert old is None
    note("item_inserted", name=new.name, amount=str(new.amount), data=new.data)


@pgpubsub_sql.post_update_listener("tests.app.channels.ItemChannel")
def item_updated(old: Item, new: Item, context: dict) -> None:
    note("item_updated", old=old.name, new=new.name, context=dict(context))


@pgpubsub_sql.post_delete_listener(ItemChannel)
def item_deleted(old: Item) -> None:
    note("item_deleted", name=old.name)


@pgpubsub_sql.post_save_listener(ItemChannel)
def item_saved(new: Item, **kwargs: Any) -> None:
    note("item_saved", name=new.name, kwargs=sorted(kwargs))


@pgpubsub_sql.post_save_listener(ItemNews)
def news(new: Item) -> None:
    note("news", name=new.name)


def twice(function: Any) -> Any:
    """A decorator above ours, which must not be bypassed."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        function(*args, **kwargs)

    return call


@twice
@pgpubsub_sql.post_insert_listener(UserChannel)
def user_inserted(new: Any) -> None:
    note("user_inserted", name=new.username)
