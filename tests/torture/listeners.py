"""Listeners that keep the ledger, and then fail as their message's mood says."""

from __future__ import annotations

import os
import random
import signal
import time

from asgiref.sync import sync_to_async

import pgpubsub_sql
from pgpubsub_sql.worker import outcomes
from tests.app.listeners import behave, fail
from tests.ledger import stranger
from tests.torture.channels import Alone, Brittle, LiveRows, Message, Ordered, OrderedRows, Rows
from tests.torture.models import Handled, Overheard, Row
from tests.torture.untidy import UNTIDY, dirt

MOODS = (
    *("bad", "exit", "strange", "broken-sql", "swallowed", "dangling", "rollback", "never left"),
    *("savepoint-less", "raw error", "raw write", "copy", "copy and fail", "callproc", "too long"),
    *("unseen error", "unseen dangling", "call back and fail", "close", "roll back raw"),
    "roll back raw and write",
)
"""Failures that are charged: after so many as the message says, its listener does well."""

INNOCENT = ("serialization", "deadlock", "terminate")
"""Failures that are not charged: as often as not, the listener does well."""

DEADLY = "die"
"""The end of the process: charged if it has a supervisor, so it is as often as not, too."""

FELLING = "fell"
"""The end of the whole process group: charged by whoever takes it next. It never goes well."""

outcomes.READ_AGAIN_SECONDS = (0.1, 0.5)
"""A message that no listener can read waits for a worker of another version, but not for minutes
as usual."""

LONG_SECONDS = 0.2
"""How long a listener takes that takes its time, on average: so that calamities find it at work."""


def enter(notification: pgpubsub_sql.Notification, event: object, key: str | None = None) -> None:
    """Write into the ledger, then take some time, or misbehave."""
    enter_dirt(event)
    Handled.objects.create(
        writer=event.writer,
        number=event.number,
        channel=notification.channel,
        notification=notification.id,
        key=key,
        attempts=notification.attempts,
    )
    if event.mood == FELLING:
        os.killpg(0, signal.SIGKILL)
    elif event.mood in UNTIDY:
        UNTIDY[event.mood]()
        if notification.attempts < event.failures - 1:
            fail("after leaving something behind")
    elif not does_well(event, notification.attempts):
        behave(event.mood)
    elif random.random() < 0.02:
        time.sleep(random.expovariate(1 / LONG_SECONDS))


def does_well(event: object, attempts: int) -> bool:
    if event.mood in (*INNOCENT, DEADLY):
        return random.random() < 0.5
    return attempts >= event.failures


def enter_dirt(event: object) -> None:
    """Write down what an earlier message has left behind, on a connection that has none of it."""
    for what in dirt():
        with stranger() as cursor:
            cursor.execute(
                "INSERT INTO torture_dirt (writer, number, what) VALUES (%s, %s, %s)",
                (event.writer, event.number, what),
            )


@pgpubsub_sql.listener(Message)
def handle(notification: pgpubsub_sql.Notification, **fields: object) -> None:
    enter(notification, Message(**fields))


@pgpubsub_sql.listener(Alone)
async def handle_alone(notification: pgpubsub_sql.Notification, **fields: object) -> None:
    await sync_to_async(enter)(notification, Alone(**fields))


@pgpubsub_sql.listener(Ordered)
def handle_in_order(notification: pgpubsub_sql.Notification, **fields: object) -> None:
    enter(notification, event := Ordered(**fields), event.key)


@pgpubsub_sql.listener(Brittle)
def handle_quickly(notification: pgpubsub_sql.Notification, **fields: object) -> None:
    enter(notification, Brittle(**fields))


@pgpubsub_sql.post_save_listener(Rows)
def handle_row(new: Row, notification: pgpubsub_sql.Notification) -> None:
    enter(notification, new)


@pgpubsub_sql.post_save_listener(OrderedRows)
def handle_row_in_order(new: Row, notification: pgpubsub_sql.Notification) -> None:
    enter(notification, new, new.key)


@pgpubsub_sql.post_insert_listener(LiveRows)
def overhear(new: Row) -> None:
    Overheard.objects.create(writer=new.writer, number=new.number, process=os.getpid())
