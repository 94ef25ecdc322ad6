"""Listeners that write down what they were called with."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connection, transaction

import pgpubsub_sql
from tests.app.channels import ItemChannel, ItemNews, Job, Shout, UserChannel
from tests.app.models import Entry, Item


def note(listener: str, **data: Any) -> None:
    """Write into the ledger, within the transaction of the message."""
    Entry.objects.create(listener=listener, data=data)


def execute(statement: str) -> None:
    connection.cursor().execute(statement)


def fail(message: str) -> None:
    raise RuntimeError(message)


def swallow() -> None:
    with contextlib.suppress(DatabaseError):
        execute("SELECT no_such_column")


def hang() -> None:
    """Wait for the lock in Python, where signals are noticed; not in the driver, as "wait" does."""
    logging.getLogger(__name__).info("this listener hangs")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(77)")
        while cursor.fetchone() != (True,):
            threading.Event().wait(0.01)
            cursor.execute("SELECT pg_try_advisory_xact_lock(77)")


def call_back() -> None:
    transaction.on_commit(lambda: fail("this callback is in a bad mood"))
    transaction.on_commit(lambda: note("called back"))


MOODS: dict[str, Callable[[], object]] = {
    "good": lambda: None,
    "async": lambda: None,
    "bad": lambda: fail("this listener is in a bad mood"),
    "strange": lambda: fail("\0 and \udcff"),
    "broken-sql": lambda: execute("SELECT no_such_column"),
    "swallowed": swallow,
    "dangling": lambda: execute(
        "INSERT INTO blog_post (author_id, title, content) VALUES (-1, '', '')"
    ),
    "rollback": lambda: transaction.set_rollback(True),
    "call back": call_back,
    "close": lambda: connection.close(),
    "terminate": lambda: execute("SELECT pg_terminate_backend(pg_backend_pid())"),
    "wait": lambda: execute("SELECT pg_advisory_xact_lock(77)"),
    "hang": hang,
    "exit": lambda: sys.exit(3),
    "die": lambda: os._exit(7),
}
"""What a test may want a listener to do."""


def behave(mood: str) -> None:
    MOODS[mood]()


@pgpubsub_sql.listener(Job)
def do_job(number: int, mood: str, notification: pgpubsub_sql.Notification, context: dict) -> None:
    note("do_job", number=number, attempts=notification.attempts, context=dict(context))
    behave(mood)


@pgpubsub_sql.listener(Shout)
def hear(**fields: Any) -> None:
    types = {name: type(value).__name__ for name, value in fields.items()}
    note("hear", number=fields["number"], fields=sorted(fields), types=types)
    behave(fields["mood"])


@pgpubsub_sql.listener("app.Shout")
def hear_only_number(number: int, extra: str = "a default") -> None:
    note("hear_only_number", number=number, extra=extra)


@pgpubsub_sql.listener(Shout)
async def hear_async(number: int, mood: str) -> None:
    if mood == "async":
        await Entry.objects.acreate(listener="hear_async", data={"number": number})


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
    behave(new.data.get("mood", "good"))


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
