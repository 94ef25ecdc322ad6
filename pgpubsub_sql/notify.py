"""Sending: always through parameters, always in the caller's transaction."""

from __future__ import annotations

import datetime
from typing import Any, overload

from django.apps import apps
from django.db import connections, router

from pgpubsub_sql.channels import Channel, TriggerChannel, codec, dotted_path, find_channel
from pgpubsub_sql.errors import PayloadError

_PUBLISH = "SELECT pgpubsub_publish_v1(%s, %s::jsonb)"
_STORE = (
    "SELECT pgpubsub_store_v1(%s, %s::jsonb, "
    "coalesce(%s, clock_timestamp() + %s::interval), %s, NULL)"
)


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
        pgpubsub_sql.notify(PostReads(model_id=1, date=date), using="replica")

    *channel* is a class, its module path or its name in PostgreSQL, followed by the fields; or
    an instance, followed by options: ``using`` (a database alias) and, on durable channels,
    ``delay`` (a timedelta), ``at`` (an aware datetime before which it is not handled; not
    together with ``delay``) and ``expires`` (an aware datetime).

    Raises :class:`PayloadError` if the fields do not fit the channel.
    """
    if isinstance(channel, Channel):
        fields = {name: getattr(channel, name) for name in codec(type(channel)).fields}
        _send(type(channel), fields, **arguments)
    else:
        _send(_sendable(find_channel(channel)), arguments)


def _sendable(channel: type[Any]) -> type[Channel]:
    if issubclass(channel, Channel):
        return channel
    kind = "a trigger channel" if issubclass(channel, TriggerChannel) else "not a channel"
    raise PayloadError(
        f"{dotted_path(channel)} is {kind}: notify() sends on subclasses of Channel, and the "
        "database itself sends on subclasses of TriggerChannel."
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
    name, payload = channel.postgres_name(), codec(channel).encode(fields)
    if channel.lock_notifications:
        if delay is not None and at is not None:
            raise PayloadError(f"{name}: give either delay or at, not both.")
        statement, parameters = _STORE, [name, payload, at, delay, expires]
    elif (delay, at, expires) == (None, None, None):
        statement, parameters = _PUBLISH, [name, payload]
    else:
        raise PayloadError(
            f"{name} is ephemeral, so nothing keeps a message until later. "
            "delay, at and expires want lock_notifications = True on the channel."
        )
    alias = using or router.db_for_write(apps.get_model("pgpubsub_sql", "Notification"))
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
