"""Channels with options, and listeners that do what the mood of a message says."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from dataclasses import dataclass

from asgiref.sync import sync_to_async

import pgpubsub_sql
from tests.app.listeners import SILENT, behave, execute, note, unload
from tests.app.models import Entry


@dataclass
class LoneJob(pgpubsub_sql.Channel):
    """One transaction a message."""

    number: int
    mood: str = "good"
    lock_notifications = True
    batch_size = 1


@pgpubsub_sql.listener(LoneJob)
def do_lone_job(number: int, mood: str) -> None:
    if mood not in SILENT:
        note("do_lone_job", number=number)
    behave(mood, number)


@dataclass
class Twice(pgpubsub_sql.Channel):
    """Tried no more than twice."""

    number: int
    mood: str = "good"
    lock_notifications = True
    retry = pgpubsub_sql.Retry(max_attempts=2, delay=500, jitter=0)


@pgpubsub_sql.listener(Twice)
def do_it_twice(number: int, mood: str) -> None:
    behave(mood, number)


@dataclass
class Parcel(pgpubsub_sql.Channel):
    """In order for each parcel and day, whose values can be spelled in several ways."""

    parcel: uuid.UUID
    sent: datetime.datetime
    lock_notifications = True
    ordering_key = ("parcel", "sent")


@dataclass
class Hasty(pgpubsub_sql.Channel):
    """Whose listener has little time."""

    number: int
    mood: str = "good"
    lock_notifications = True
    timeout = 1.0


@dataclass
class HastyShout(pgpubsub_sql.Channel):
    """Ephemeral, and with as little time."""

    number: int
    mood: str = "good"
    timeout = 1.0


@pgpubsub_sql.listener(Hasty)
@pgpubsub_sql.listener(HastyShout)
def be_quick(number: int, mood: str) -> None:
    note("be_quick", number=number)
    if not mood.startswith("async "):
        behave(mood, number)


@pgpubsub_sql.listener(Hasty)
async def be_quick_in_a_loop(number: int, mood: str) -> None:
    if mood == "async sleep":
        await asyncio.sleep(60)
    if mood == "async query":
        await sync_to_async(execute)("SELECT pg_sleep(60)")
    if mood == "async error":
        raise TimeoutError("of the listener's own")
    await Entry.objects.acreate(listener="in_a_loop", data={"number": number})


@dataclass
class Pile(pgpubsub_sql.Channel):
    """Handled in lists, in order for each account."""

    account: str | None
    number: int
    mood: str = "good"
    lock_notifications = True
    ordering_key = "account"
    retry = pgpubsub_sql.Retry(max_attempts=3, delay=500, jitter=0)


@pgpubsub_sql.batch_listener(Pile)
def pile(messages: list[Pile]) -> None:
    unload("pile", messages)


@dataclass
class Async(pgpubsub_sql.Channel):
    """Handled in lists by a coroutine that has little time."""

    number: int
    mood: str = "good"
    lock_notifications = True
    timeout = 1.0


@pgpubsub_sql.batch_listener(Async)
async def load_async(messages: list[Async]) -> None:
    if any(one.mood == "sleep" for one in messages):
        await asyncio.sleep(60)
    await sync_to_async(unload)("load_async", messages)
