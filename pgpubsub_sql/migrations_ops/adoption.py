"""Stored notifications of django-pgpubsub: moved to our table, and back.

One statement moves a batch, so whatever ends a run, the next one goes on. What is in flight in a
worker of django-pgpubsub is skipped.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from django.db import DataError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.channels import (
    BaseChannel,
    TriggerChannel,
    declared_channels,
    key_names,
    model_of,
    notified_names,
)
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.predecessor import TABLE, OldMessages, has_old_table, old_messages, old_name

BATCH = 1000
"""Messages moved in one transaction."""

Progress: TypeAlias = Callable[[int], object]
"""Called with the number of messages that are done."""

NEVER_HANDLED = "NeverHandled"
"""The ``reason`` of messages that no worker of django-pgpubsub could have handled."""
_WHY = (
    "notify() of django-pgpubsub has stored this message under {old}, where none of its workers "
    "looks: it was never handled. Replay it to have it handled now."
)


class Unheard(enum.StrEnum):
    """What becomes of messages that were never handled."""

    PARK = "park"
    """They are parked, for somebody to look at."""
    DELIVER = "deliver"
    """They are handled, however old they are."""
    DISCARD = "discard"
    """They are deleted."""


class Share(NamedTuple):
    """What is stored under one old name, and where it belongs."""

    stored: OldMessages
    channel: type[BaseChannel] | None
    """None if no durable channel had this name."""
    is_unheard: bool
    """Whether django-pgpubsub could not handle what it stored under this name."""


def shares(connection: BaseDatabaseWrapper) -> list[Share]:
    """Return what is stored in the old table, by name; nothing if there is no such table."""
    if not has_old_table(connection):
        return []
    known = _old_names()
    return [
        Share(stored, *known.get(stored.name, (None, False))) for stored in old_messages(connection)
    ]


def path_of(channel: type[BaseChannel]) -> str:
    """Return the dotted path by which django-pgpubsub named *channel*."""
    return f"{channel.__module__}.{channel.__name__}"


def old_name_of(channel: type[BaseChannel]) -> str:
    """Return the name in PostgreSQL that django-pgpubsub gave to *channel*."""
    return old_name(path_of(channel))


def adopt(
    connection: BaseDatabaseWrapper, share: Share, unheard: Unheard, progress: Progress | None
) -> int:
    """Move the messages of *share*, in order, and return how many are moved or discarded."""
    channel = share.channel
    if channel is None:
        return 0
    is_parked = share.is_unheard and unheard is Unheard.PARK
    values = {
        "old": share.stored.name,
        "new": channel.postgres_name(),
        "has_rows": issubclass(channel, TriggerChannel),
        "timings": json.dumps(_timings(channel)),
        "key": key_names(channel),
        "reason": NEVER_HANDLED if is_parked else "",
        "error": _WHY.format(old=share.stored.name) if is_parked else "",
        "discard": share.is_unheard and unheard is Unheard.DISCARD,
    }

    def move() -> int:
        return _adopt_batch(connection, values, BATCH)

    return _repeat(connection, channel, move, progress)


def give_back(
    connection: BaseDatabaseWrapper, channel: type[BaseChannel], progress: Progress | None
) -> int:
    """Move all stored messages of *channel* to the old table, and return their number.

    Raises :class:`NotReady` if there is no such table.
    """
    if not has_old_table(connection):
        raise NotReady(
            f'The table {TABLE} is gone. Put "pgpubsub" back into INSTALLED_APPS, and run: python '
            "manage.py migrate pgpubsub"
        )

    def move() -> int:
        # What was handled there goes first, and then what was not.
        return _give_back_batch(connection, channel) or _give_back_batch(
            connection, channel, unheard=True
        )

    return _repeat(connection, channel, move, progress)


def channels_with_messages(connection: BaseDatabaseWrapper) -> list[tuple[type[BaseChannel], int]]:
    """Return the durable channels that have stored messages here, and how many."""
    by_name = {channel.postgres_name(): channel for channel in _durable()}
    with connection.cursor() as cursor:
        cursor.execute(query("count_stored"), {"channels": list(by_name)})
        return [(by_name[name], count) for name, count in cursor.fetchall()]


def _durable() -> list[type[BaseChannel]]:
    return [channel for channel in declared_channels() if channel.lock_notifications]


def _old_names() -> dict[str, tuple[type[BaseChannel], bool]]:
    """Return the channel of each old name, and whether nobody listened to that."""
    found: dict[str, tuple[type[BaseChannel], bool]] = {}
    for channel in _durable():
        path = path_of(channel)
        found |= {path: (channel, True), old_name(path): (channel, False)}
    # Whoever overrode the old name has set channel_name to it.
    return {one.postgres_name(): (one, False) for one in _durable()} | found


def _timings(channel: type[BaseChannel]) -> dict[str, str]:
    """Return the operations whose trigger fires before the write alone: an old message says none.

    A channel of django-pgpubsub has one trigger.
    """
    wanted = {event for one in registry.listeners_of(channel) for event in one.timed_events}
    before = [event.removeprefix("before_") for event in wanted if event.startswith("before_")]
    return {event.upper(): "BEFORE" for event in before if f"after_{event}" not in wanted}


def _repeat(
    connection: BaseDatabaseWrapper,
    channel: type[BaseChannel],
    move: Callable[[], int],
    progress: Progress | None,
) -> int:
    """Call *move* until it moves nothing, each time in a transaction, and wake workers."""
    done = 0
    while True:
        with transaction.atomic(using=connection.alias):
            if not (moved := move()):
                return done
            names = notified_names([channel.postgres_name()])
            _run(connection, "ring", {"channels": names})
        done += moved
        if progress:
            progress(done)


def _adopt_batch(connection: BaseDatabaseWrapper, values: dict[str, Any], limit: int) -> int:
    """Move up to *limit* messages; fewer if one of them is text that PostgreSQL cannot parse.

    Such a message, alone, moves as text.
    """
    try:
        with transaction.atomic(using=connection.alias):
            ((moved,),) = _run(connection, "adopt", values | {"limit": limit, "as_text": False})
    except DataError:
        if limit > 1:
            return _adopt_batch(connection, values, limit // 2)
        ((moved,),) = _run(connection, "adopt", values | {"limit": 1, "as_text": True})
    return int(moved)


def _give_back_batch(
    connection: BaseDatabaseWrapper, channel: type[BaseChannel], *, unheard: bool = False
) -> int:
    chosen = {
        "channel": channel.postgres_name(),
        "reason": NEVER_HANDLED,
        "unheard": unheard,
        "limit": BATCH,
    }
    picked = _run(connection, "pick_to_give_back", chosen)
    if not picked:
        return 0
    ids, old_ids, times = map(list, zip(*picked, strict=True))
    _run(
        connection,
        "give_back",
        {
            "ids": ids,
            "old_ids": old_ids,
            "old": path_of(channel) if unheard else old_name_of(channel),
            "unheard": unheard,
            **_labels(channel),
        },
    )
    _run(connection, "restore_times", {"old_ids": old_ids, "times": times})
    return len(picked)


def _labels(channel: type[BaseChannel]) -> dict[str, Any]:
    """Return what an old message says of its model."""
    if not issubclass(channel, TriggerChannel):
        return {"has_rows": False, "app": "", "model": ""}
    model = model_of(channel)
    return {"has_rows": True, "app": model._meta.app_label, "model": model.__name__}


def _run(
    connection: BaseDatabaseWrapper, name: str, values: dict[str, Any]
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query(name), values)
        return list(cursor.fetchall()) if cursor.description else []
