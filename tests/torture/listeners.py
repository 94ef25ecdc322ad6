"""Listeners that keep the ledger, and then fail as their message's mood says."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction

import pgpubsub_sql
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import filling, list_batch, outcomes
from tests.app.listeners import behave, fail
from tests.ledger import stranger
from tests.torture.channels import (
    FILLED,
    NAMES,
    Alone,
    Brittle,
    Bundle,
    Changing,
    LiveRows,
    Message,
    Ordered,
    OrderedBundle,
    OrderedRows,
    Rows,
    Shared,
)
from tests.torture.models import Handled, Name, Overheard, Row
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

NOT_IN_BLOCKS = (*UNTIDY, "rollback", "savepoint-less")
"""What a block of the listener's own would hide: the next message of the same call would notice, or
the block would roll back what was written, without an error."""

DEADLY = "die"
"""The end of the process: charged if it has a supervisor, so it is as often as not, too."""

FELLING = "fell"
"""The end of the whole process group: charged by whoever takes it next. It never goes well."""

outcomes.READ_AGAIN_SECONDS = (0.1, 0.5)
"""A message that no listener can read waits for a worker of another version, but not for minutes
as usual."""

list_batch.FREE_OUTAGES = 1
"""A few messages that are all bad are soon told from an outage."""

filling.STEP_MESSAGES, filling.LOOK_SECONDS = 20, 0.05
"""The history is short, but it takes many steps; and it is found soon that it is wanted."""

LONG_SECONDS = 0.2
"""How long a listener takes that takes its time, on average: so that calamities find it at work."""


def enter(notification: pgpubsub_sql.Notification, event: object, key: str | None = None) -> None:
    """Write into the ledger, then take some time, or misbehave."""
    enter_dirt(event)
    entry(notification, event, key).save()
    act(notification, event)


def enter_together(notifications: list[Any], events: list[Any], keys: list[str | None]) -> None:
    """Write all into the ledger, then misbehave as each of them says, or name those that do."""
    enter_dirt(events[0])
    entries = [entry(*one) for one in zip(notifications, events, keys, strict=True)]
    if random.random() < 0.5 and not any(one.mood in NOT_IN_BLOCKS for one in events):
        enter_each(notifications, events, entries)
        return
    Handled.objects.bulk_create(entries)
    for notification, event in zip(notifications, events, strict=True):
        act(notification, event)


def enter_each(notifications: list[Any], events: list[Any], entries: list[Handled]) -> None:
    failed = []
    for notification, event, one in zip(notifications, events, entries, strict=True):
        try:
            with transaction.atomic():
                one.save()
                act(notification, event)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            failed.append((event, error))
    if failed:
        raise pgpubsub_sql.PartialFailure(failed)


def entry(notification: pgpubsub_sql.Notification, event: Any, key: str | None) -> Handled:
    subscription = notification.subscription
    if isinstance(event, Changing):
        subscription = Name.objects.get(name=subscription).first
    return Handled(
        writer=event.writer,
        number=event.number,
        channel=str(Lane(notification.channel, subscription)),
        notification=notification.id,
        key=key,
        attempts=notification.attempts,
    )


def act(notification: pgpubsub_sql.Notification, event: Any) -> None:
    """Take some time, or misbehave."""
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


@pgpubsub_sql.batch_listener(Bundle)
def handle_together(events: list[Bundle], notifications: list[pgpubsub_sql.Notification]) -> None:
    enter_together(notifications, events, [None] * len(events))


@pgpubsub_sql.batch_listener(OrderedBundle)
async def handle_together_in_order(
    events: list[OrderedBundle], notifications: list[pgpubsub_sql.Notification]
) -> None:
    keys = [event.key for event in events]
    await sync_to_async(enter_together)(notifications, events, keys)


@pgpubsub_sql.listener(Shared)
@pgpubsub_sql.listener(Shared, subscription="second")
def handle_for_each(notification: pgpubsub_sql.Notification, **fields: object) -> None:
    enter(notification, event := Shared(**fields), event.key)


def handle_meanwhile(notification: pgpubsub_sql.Notification, **fields: object) -> None:
    enter(notification, Changing(**fields))


KNOWN = NAMES[: int(os.environ.get("TORTURE_NAMES", len(NAMES)))]
"""Those that this code knows. There are workers of older code, which does not know all."""
for name in KNOWN:
    pgpubsub_sql.listener(Changing, subscription=name)(handle_meanwhile)
for name in FILLED:
    pgpubsub_sql.listener(Changing, subscription=name, start="history")(handle_meanwhile)


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
