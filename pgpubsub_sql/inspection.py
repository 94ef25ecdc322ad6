"""What is known about a stored message beside its row: for the commands and the admin."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from pgpubsub_sql.channels import BaseChannel, find_channel
from pgpubsub_sql.errors import ChannelNotFound, PayloadError
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.worker.decoding import decode_message


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


def inspect_message(name: str, payload: str, *, using: str) -> Inspection:
    """Return who would handle a message of the channel *name* with this *payload*, which is JSON.

    *using* is the alias of the database that it is stored in.
    """
    channel = declared(name)
    if channel is None:
        return Inspection(no_listener=NoListener.UNDECLARED)
    try:
        message = decode_message(channel, payload, using=using)
    except PayloadError as error:
        return Inspection(no_listener=NoListener.UNREADABLE, error=str(error))
    listeners = registry.listeners_of(channel)
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
