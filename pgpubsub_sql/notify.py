"""Sending: always through parameters, always in the caller's transaction."""

from __future__ import annotations

import datetime
from typing import Any, overload

from django.apps import apps
from django.conf import settings
from django.db import connections, router
from django.utils import timezone

from pgpubsub_sql.channels import BaseChannel, Channel, codec, dotted_path, find_channel
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.sql import query

_OPTIONS = frozenset({"using", "delay", "at", "expires"})


@overload
def notify(channel: type[Channel] | str, /, **fields: Any) -> None: ...
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
def notify(channel: type[Channel] | str | Channel, /, **arguments: Any) -> None:
    """Send a message, which leaves when the current transaction commits.

    ::

        pgpubsub_sql.notify(PostReads, model_id=1, date=datetime.date.today())
        pgpubsub_sql.notify(PostReads(model_id=1, date=date), using="other")

    *channel* is a class, its module path or its name in PostgreSQL, followed by the fields; or
    an instance, followed by options: ``using`` (a database alias) and, on durable channels,
    ``delay`` (a timedelta), ``at`` (an aware datetime before which it is not handled; not
    together with ``delay``) and ``expires`` (an aware datetime).

    In a read-only transaction only ephemeral messages of up to 7,999 bytes can be sent.

    Raises :class:`ChannelNotFound`, and :class:`PayloadError` if the fields do not fit the
    channel or the options do not make sense.
    """
    if not isinstance(channel, BaseChannel):
        _send(_sendable(find_channel(channel)), arguments)
        return
    declared = _sendable(type(channel))
    if unknown := sorted(arguments.keys() - _OPTIONS):
        raise TypeError(
            f"notify() of a {declared.__name__} takes the options using, delay, at and expires, "
            f"not {unknown[0]!r}: fields go into the instance."
        )
    _send(declared, {name: getattr(channel, name) for name in codec(declared).fields}, **arguments)


def _sendable(channel: type[BaseChannel]) -> type[Channel]:
    if issubclass(channel, Channel):
        return channel
    raise PayloadError(
        f"{dotted_path(channel)} is no subclass of Channel: on a trigger channel the database "
        "itself sends, when rows of its model change."
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
        values |= {"delay": delay, "at": at, "expires": expires}
    elif (delay, at, expires) == (None, None, None):
        statement = query("publish")
    else:
        raise PayloadError(
            f"{name} is ephemeral, so nothing keeps a message until later. "
            "delay, at and expires want lock_notifications = True on the channel."
        )
    alias = using or router.db_for_write(apps.get_model("pgpubsub_sql", "Notification"))
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, values)


def _check_times(name: str, delay: Any, at: Any, expires: Any) -> None:
    """Refuse here what the server would refuse by ending the transaction, or misunderstand."""
    if delay is not None and at is not None:
        raise PayloadError(f"{name}: give either delay or at, not both.")
    if not isinstance(delay, datetime.timedelta | None):
        raise PayloadError(f"{name}: delay is a timedelta, not {delay!r}.")
    for option, moment in {"at": at, "expires": expires}.items():
        if not isinstance(moment, datetime.datetime | None):
            raise PayloadError(f"{name}: {option} is a datetime, not {moment!r}.")
        if moment is not None and settings.USE_TZ and timezone.is_naive(moment):
            raise PayloadError(
                f"{name}: {option} has no time zone, so that it could mean any hour: "
                "use django.utils.timezone.make_aware()."
            )
