"""What the commands and the admin both say of messages and of channels."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections, router

from pgpubsub_sql.channels import BaseChannel, find_channel, is_notified
from pgpubsub_sql.errors import ChannelNotFound, PayloadError
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Filled, Lane, columns
from pgpubsub_sql.worker.decoding import decode_message

MOST = 10_000
"""How far messages are counted."""
MAX_QUEUE = 0.5
"""How full the NOTIFY queue may be, of 1."""
MAX_TRANSACTION_SECONDS = 3600.0
"""A transaction that keeps vacuum from its work for longer is a problem."""
MAX_DEAD = 100_000
"""More dead rows are a problem: each search for messages has to pass them."""


def capped(number: int) -> str:
    """Return a number of messages as text; a larger one than :data:`MOST` stands for more."""
    return f"{number:,}" if number <= MOST else f"{MOST:,}+"


class NoListener(enum.Enum):
    """Why no listener would be called."""

    UNDECLARED = enum.auto()
    """No channel of this name is declared."""
    UNREADABLE = enum.auto()
    """The payload cannot be read."""
    OTHER_EVENTS = enum.auto()
    """The channel's listeners want other events."""
    NONE = enum.auto()
    """The channel has no listener."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What this version of the code makes of a payload."""

    listeners: tuple[str, ...] = ()
    """Dotted paths of the listeners that would be called, in order."""
    no_listener: NoListener | None = None
    """Why there is none."""
    timed_event: str = ""
    """Such as ``after_insert``; empty on channels without a trigger, and if nobody knows."""
    error: str = ""
    """Why the payload cannot be read, which may quote it."""
    context: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The notification context of the sender."""


def declared(name: str) -> type[BaseChannel] | None:
    """Return the channel of this name in PostgreSQL; None if the code declares none."""
    try:
        return find_channel(name)
    except ChannelNotFound:
        return None


def max_attempts(name: str) -> int | None:
    """Return how many attempts a message of this channel has; None if nobody knows."""
    channel = declared(name)
    return channel.retry.max_attempts if channel else None


def inspect_message(lane: Lane, payload: str, *, using: str) -> Inspection:
    """Return who would handle a message that is stored in *lane* with this *payload*, in JSON.

    *using* is the alias of the database that it is stored in.
    """
    channel = declared(lane.channel)
    if channel is None:
        return Inspection(no_listener=NoListener.UNDECLARED)
    try:
        message = decode_message(channel, payload, using=using)
    except PayloadError as error:
        return Inspection(no_listener=NoListener.UNREADABLE, error=str(error))
    name = lane.subscription if channel.lock_notifications else None
    listeners = registry.listeners_of(channel, name)
    paths = tuple(one.path for one in listeners if one.accepts(message.timed_event))
    reason = None if paths else NoListener.OTHER_EVENTS if listeners else NoListener.NONE
    return Inspection(
        listeners=paths,
        no_listener=reason,
        timed_event=message.timed_event,
        context=dict(message.context),
    )


def last_line(traceback: str) -> str:
    """Return the last line of a traceback, which says what went wrong."""
    return traceback.strip().rpartition("\n")[2]


def is_polled(channel: type[BaseChannel]) -> bool:
    """Whether workers poll the stored messages of *channel*, as its writers do not notify them."""
    return channel.lock_notifications and not is_notified(channel)


class Holder(NamedTuple):
    """A session that has messages of a channel in flight."""

    pid: int
    """Of the process of the server."""
    name: str
    """Its ``application_name``, such as ``pgpubsub_sql work``."""
    messages: int
    seconds: float | None
    """For how long its transaction has been open; None if this role may not see that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredCounts:
    """How many messages of a subscription are stored; ``MOST + 1`` stands for more."""

    lane: Lane
    due: int
    """Ready or in flight."""
    in_flight: int
    waiting: int
    """Delayed, or to be retried."""
    failed: int
    """Parked, or failed and not handled since: these are ready or waiting, too."""
    parked: int
    """Of the failed ones that were counted."""
    oldest: float | None
    """For how many seconds the oldest that is ready has been due."""
    holders: tuple[Holder, ...]
    """Who has those in flight, the longest first."""
    paused_seconds: float | None
    """For how many seconds it has been paused; None if it is not."""
    filled: Filled | None
    """How far it is filled with the history; None if it is not being filled."""

    @property
    def ready(self) -> int:
        """How many the next free worker takes."""
        return self.due if self.due > MOST else self.due - self.in_flight

    @property
    def stored(self) -> int:
        """How many there are."""
        return min(self.due + self.waiting + self.parked, MOST + 1)


def our_databases() -> list[str]:
    """Return the aliases of the databases that our tables may be in."""
    aliases = [one for one in connections if connections[one].vendor == "postgresql"]
    model = apps.get_model("pgpubsub_sql", "Notification")
    return [one for one in aliases if router.allow_migrate_model(one, model)]


def stored_lanes(using: str) -> list[Lane]:
    """Return the subscriptions that have messages."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("stored_lanes"))
        return [Lane(*row) for row in cursor.fetchall()]


def stored_channels(using: str) -> list[str]:
    """Return the names of the channels that have messages."""
    return list(dict.fromkeys(lane.channel for lane in stored_lanes(using)))


def paused_lanes(using: str) -> dict[Lane, float]:
    """Return for how many seconds subscriptions have been paused."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("paused"))
        return {Lane(*row): seconds for *row, seconds in cursor.fetchall()}


def filled_lanes(using: str) -> dict[Lane, Filled]:
    """Return the subscriptions that are being filled with the history."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("filling"))
        found = [Filled(*row) for row in cursor.fetchall()]
    return {one.lane: one for one in found}


class OpenTransaction(NamedTuple):
    """A transaction that keeps vacuum from removing dead rows."""

    pid: int | None
    """Of the process of the server; None if it is prepared for a two-phase commit."""
    name: str
    seconds: float

    @property
    def title(self) -> str:
        """Its name, and the process."""
        return f"{self.name} ({self.pid})".strip() if self.pid else self.name


class TableCare(NamedTuple):
    """What keeps claims quick: vacuum, and a NOTIFY queue that is not full."""

    queue_usage: float
    """How full the NOTIFY queue is, of 1."""
    dead: int
    """Rows that vacuum has to remove from the table of messages."""
    live: int
    vacuumed: float | None
    """For how many seconds it has not been vacuumed; None if it never was."""
    oldest: OpenTransaction | None


def table_care(using: str) -> TableCare:
    """Return what is known of vacuum and the NOTIFY queue."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("oldest_transaction"))
        oldest = next((OpenTransaction(*row) for row in cursor.fetchall()), None)
        cursor.execute(query("table_care"))
        usage, dead, live, vacuumed = cursor.fetchone()
    return TableCare(usage, dead, live, vacuumed, oldest)


class LongCall(NamedTuple):
    """What a worker has been handling for more than a second."""

    channel: str
    message: int | None
    """Id of the notification; None for what is not stored."""
    listener: str
    """Its dotted path; empty if none has been called yet."""
    seconds: float
    process: int
    """Process id of the worker."""
    host: str
    """Name of its machine."""


def long_calls(using: str) -> list[LongCall]:
    """Return what takes long, the longest first; nothing without the table or the privilege."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("may_see_display"))
        if not cursor.fetchone()[0]:
            return []
        cursor.execute(query("displayed"))
        return [LongCall(*row) for row in cursor.fetchall()]


def stored_counts(using: str, lanes: Iterable[Lane]) -> dict[Lane, StoredCounts]:
    """Return what is stored of these *lanes*."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("status"), columns(lanes))
        rows = cursor.fetchall()
    paused, filled = paused_lanes(using), filled_lanes(using)
    found = [(Lane(*row[:2]), row[2:]) for row in rows]
    return {
        lane: _stored_counts(lane, *numbers, paused.get(lane), filled.get(lane))
        for lane, numbers in found
    }


def _stored_counts(lane: Lane, *numbers: Any) -> StoredCounts:
    due, in_flight, waiting, failed, parked, oldest, holders, paused_seconds, filled = numbers
    return StoredCounts(
        lane=lane,
        due=due,
        in_flight=in_flight,
        waiting=waiting,
        failed=failed,
        parked=parked,
        oldest=oldest,
        holders=tuple(Holder(*one) for one in json.loads(holders)),
        paused_seconds=paused_seconds,
        filled=filled,
    )
