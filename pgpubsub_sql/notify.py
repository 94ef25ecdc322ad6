"""Sending of messages, always in the caller's transaction."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ParamSpec, overload

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import ProgrammingError
from django.utils import timezone

from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    codec,
    declared_channels,
    dotted_path,
    find_channel,
    select_channels,
)
from pgpubsub_sql.errors import NotReady, PayloadError
from pgpubsub_sql.payloads import ordering_key
from pgpubsub_sql.sql import UNDEFINED_FUNCTION, query, sqlstate
from pgpubsub_sql.transaction_settings import connection_of

LONGEST_DELAY = datetime.timedelta(days=365_250)
"""Keeps the time within PostgreSQL's calendar."""
Fields = ParamSpec("Fields")
"""The fields of a channel, so that type checkers check them, and editors complete them."""

_OPTIONS = frozenset({"using", "delay", "at", "expires"})


@overload
def notify(
    channel: Callable[Fields, Channel], /, *args: Fields.args, **fields: Fields.kwargs
) -> None: ...
@overload
def notify(channel: str, /, **fields: Any) -> None: ...
@overload
def notify(
    channel: Channel,
    /,
    *,
    using: str | None = None,
    delay: datetime.timedelta | None = None,
    at: datetime.datetime | None = None,
    expires: datetime.datetime | None = None,
) -> None: ...
def notify(  # type: ignore[misc]  # fields are given by name, which ParamSpec cannot say
    channel: type[Channel] | str | Channel, /, **arguments: Any
) -> None:
    """Send a message when the current transaction commits.

    ::

        pgpubsub_sql.notify(PostReads, model_id=1, date=datetime.date.today())
        pgpubsub_sql.notify(PostReads(model_id=1, date=date), using="default")

    *channel* is either a class, its module path or its name in PostgreSQL, followed by the fields;
    or an instance, followed by options: ``using`` (a database alias) and, on durable channels,
    ``delay`` (a timedelta) or ``at`` (an aware datetime), before which the message is not handled,
    and ``expires`` (an aware datetime), after which it is no longer handled.

    In a read-only transaction only ephemeral messages of up to 7,999 bytes can be sent.

    Raises :class:`ChannelNotFound`, and :class:`PayloadError` if the fields do not fit the channel
    or the options contradict each other or the channel.
    """
    if not isinstance(channel, BaseChannel):
        declared = _sendable(find_channel(channel))
        _refuse_options(declared, arguments)
        _send(declared, codec(declared).initialized(arguments))
        return
    declared = _sendable(type(channel))
    if unknown := sorted(arguments.keys() - _OPTIONS):
        raise TypeError(
            f"notify() of a {declared.__name__} takes the options using, delay, at and expires, "
            f"not {unknown[0]!r}: fields go into the instance."
        )
    _send(declared, _fields(channel), **arguments)


@overload
async def anotify(
    channel: Callable[Fields, Channel], /, *args: Fields.args, **fields: Fields.kwargs
) -> None: ...
@overload
async def anotify(channel: str, /, **fields: Any) -> None: ...
@overload
async def anotify(
    channel: Channel,
    /,
    *,
    using: str | None = None,
    delay: datetime.timedelta | None = None,
    at: datetime.datetime | None = None,
    expires: datetime.datetime | None = None,
) -> None: ...
async def anotify(  # type: ignore[misc]  # as above
    channel: type[Channel] | str | Channel, /, **arguments: Any
) -> None:
    """Send a message from a coroutine, with the arguments of :func:`notify`.

    ::

        await pgpubsub_sql.anotify(PostReads, model_id=1, date=datetime.date.today())

    It uses the connection that Django's asynchronous ORM would use. In an ``async def`` listener
    that is the connection of the listener's own message, so it joins that transaction.
    """
    await sync_to_async(partial(notify, channel, **arguments))()


def notify_many(instances: Iterable[Channel], *, using: str | None = None) -> None:
    """Send many messages, on any channels, in one round trip to the database.

    ::

        pgpubsub_sql.notify_many(PostReads(post.pk, today) for post in posts)

    Each is sent as :func:`notify` would send it, in the given order. Workers are notified once per
    durable channel. If one message cannot be sent, none is.

    Raises :class:`PayloadError` for the first one that is not an instance of a channel or does not
    fit it.
    """
    messages = [_message(instance) for instance in instances]
    if messages:
        names, payloads, durable, keys = map(list, zip(*messages, strict=True))
        values = {"channels": names, "payloads": payloads, "durable": durable, "keys": keys}
        _execute(query("notify_many"), values, using)


def process_stored_notifications(
    channels: Iterable[type[BaseChannel] | str] | None = None, using: str | None = None
) -> None:
    """Have workers look at once for stored messages that are ready.

    ::

        pgpubsub_sql.process_stored_notifications()
        pgpubsub_sql.process_stored_notifications([AuthorChannel, "blog.PostReads"])

    Workers also look by themselves every few seconds, so this only saves time. They are notified
    when the current transaction commits. A base class stands for its subclasses. Parked messages
    stay parked.

    Raises :class:`ChannelNotFound`.
    """
    chosen = declared_channels()
    if channels is not None:
        chosen = select_channels(channels, chosen)
    names = [channel.postgres_name() for channel in chosen if channel.lock_notifications]
    _execute(query("ring"), {"channels": names}, using)


def _message(instance: Channel) -> tuple[str, str, bool, str | None]:
    """Return channel name, payload, durability and ordering key of one message."""
    if not isinstance(instance, BaseChannel):
        raise PayloadError(
            "notify_many() takes instances of channels, such as PostReads(1, today), "
            f"not {instance!r}."
        )
    channel = _sendable(type(instance))
    payload = codec(channel).encode(_fields(instance))
    key = _ordering_key(channel, payload)
    return channel.postgres_name(), payload, channel.lock_notifications, key


def _refuse_options(channel: type[Channel], arguments: Mapping[str, Any]) -> None:
    """Refuse options among the fields, and show the form of the call that takes them."""
    fields = codec(channel).fields
    if misplaced := sorted(_OPTIONS & arguments.keys() - fields.keys()):
        option, given = misplaced[0], [f"{name}=…" for name in fields if name in arguments]
        raise PayloadError(
            f"{channel.postgres_name()} has no field {option!r}. If you mean the option, send an "
            f"instance: notify({channel.__name__}({', '.join(given)}), {option}=…)"
        )


def _ordering_key(channel: type[Channel], payload: str) -> str | None:
    declared = codec(channel).fields
    return ordering_key(payload, {name: declared[name].type for name in channel.ordering_fields()})


def _fields(instance: Channel) -> dict[str, Any]:
    return {name: getattr(instance, name) for name in codec(type(instance)).fields}


def _sendable(channel: type[BaseChannel]) -> type[Channel]:
    if issubclass(channel, Channel):
        return channel
    raise PayloadError(
        f"{dotted_path(channel)} is not a subclass of Channel: on a trigger channel only the "
        "database sends, when rows of the model change."
    )


def _send(
    channel: type[Channel],
    fields: dict[str, Any],
    *,
    using: str | None = None,
    delay: datetime.timedelta | None = None,
    at: datetime.datetime | None = None,
    expires: datetime.datetime | None = None,
) -> None:
    name = channel.postgres_name()
    values: dict[str, Any] = {"channel": name, "payload": codec(channel).encode(fields)}
    if channel.lock_notifications:
        _check_times(name, delay, at, expires)
        statement = query("store")
        key = _ordering_key(channel, values["payload"])
        zone = connection_of(using).timezone_name
        values |= {"at": _aware(at, zone), "expires": _aware(expires, zone), "key": key}
        values["delay"] = None if delay is None else delay.total_seconds()
    elif (delay, at, expires) == (None, None, None):
        statement = query("publish")
    else:
        raise PayloadError(
            f"{name} is ephemeral: its messages are not stored, so they have no delay, at or "
            "expires. Set lock_notifications = True on the channel."
        )
    _execute(statement, values, using)


def _execute(statement: str, values: Mapping[str, Any], using: str | None) -> None:
    connection = connection_of(using)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
    except ProgrammingError as error:
        if sqlstate(error) != UNDEFINED_FUNCTION:
            raise
        raise NotReady(
            f"The functions of pgpubsub_sql are missing in the database {connection.alias!r}, or "
            "its search_path does not include their schema. Run: python manage.py migrate"
        ) from error


def _aware(moment: datetime.datetime | None, zone: str) -> datetime.datetime | None:
    """Return *moment* with the time zone *zone*: the server would ignore its ``fold``."""
    if moment is None or timezone.is_aware(moment):
        return moment
    return moment.replace(tzinfo=zoneinfo.ZoneInfo(zone))


def _check_times(name: str, delay: Any, at: Any, expires: Any) -> None:
    """Refuse times that the server would refuse, ending the transaction, or misunderstand."""
    if delay is not None and at is not None:
        raise PayloadError(f"{name}: give either delay or at, not both.")
    if not isinstance(delay, datetime.timedelta | None):
        raise PayloadError(f"{name}: delay must be a timedelta, not {delay!r}.")
    if delay is not None and abs(delay) > LONGEST_DELAY:
        raise PayloadError(
            f"{name}: the delay {delay} is longer than a thousand years. Give a shorter one."
        )
    for option, moment in {"at": at, "expires": expires}.items():
        if not isinstance(moment, datetime.datetime | None):
            raise PayloadError(f"{name}: {option} must be a datetime, not {moment!r}.")
        if moment is not None and settings.USE_TZ and timezone.is_naive(moment):
            raise PayloadError(
                f"{name}: {option} has no time zone, so it is ambiguous: use "
                "django.utils.timezone.make_aware()."
            )
