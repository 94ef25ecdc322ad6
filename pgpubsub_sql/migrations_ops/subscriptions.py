"""Subscriptions that are registered, for which messages are stored, and those that are declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.problems import Problem
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Filled, Lane, columns


def declared_lanes() -> list[Lane]:
    """Return the subscriptions of the durable channels that have listeners, in order."""
    found = set()
    for listener in registry.listeners():
        with suppress(ChannelNotFound):  # a check complains of it
            channel = listener.find_channel()
            if channel.lock_notifications:
                found.add(Lane(channel.postgres_name(), listener.subscription))
    return sorted(found)


def has_table(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the search_path of *connection* leads to the table of subscriptions."""
    return _table(connection)[0]


def registered_lanes(connection: BaseDatabaseWrapper) -> list[Lane]:
    """Return the subscriptions that are registered; none without the table or SELECT on it."""
    return _registered(connection) or []


def unregistered_lanes(connection: BaseDatabaseWrapper) -> list[Lane]:
    """Return what is declared, and for which nothing is stored, as far as that is known.

    A channel without any that is registered stores for listeners without a subscription.
    """
    registered = _registered(connection)
    if registered is None:
        return []
    known = {lane.channel for lane in registered}
    return [
        lane
        for lane in declared_lanes()
        if lane not in registered and (lane.subscription or lane.channel in known)
    ]


def _registered(connection: BaseDatabaseWrapper) -> list[Lane] | None:
    """Return what is registered; None if there is no table, or the role may not read it."""
    _, is_readable = _table(connection)
    if not is_readable:
        return None
    with connection.cursor() as cursor:
        cursor.execute(query("registered"))
        return [Lane(*row) for row in cursor.fetchall()]


def _table(connection: BaseDatabaseWrapper) -> tuple[bool, bool]:
    with connection.cursor() as cursor:
        cursor.execute(query("has_subscriptions"))
        ((is_there, is_readable),) = cursor.fetchall()
    return is_there, is_readable


def lanes_being_filled(connection: BaseDatabaseWrapper) -> list[Filled]:
    """Return what is being filled with the history; nothing without SELECT on the table."""
    if not _table(connection)[1]:
        return []
    with connection.cursor() as cursor:
        cursor.execute(query("filling"))
        return [Filled(*row) for row in cursor.fetchall()]


def register(connection: BaseDatabaseWrapper) -> None:
    """Register all that is declared; what begins with the history is filled by workers."""
    registered = registered_lanes(connection)
    if missing := [lane for lane in declared_lanes() if lane not in registered]:
        with connection.cursor() as cursor:
            filled = registry.lanes_from_history()
            values: dict[str, Any] = {
                **columns(missing),
                "filled": [lane in filled for lane in missing],
            }
            cursor.execute(query("register"), values)


def undeclared_problems(connection: BaseDatabaseWrapper, database: str) -> Iterator[Problem]:
    """Yield the registered subscriptions that channels with listeners do not declare any more.

    *database* is the option of a command that selects the database.
    """
    declared = declared_lanes()
    channels = {lane.channel for lane in declared}
    for lane in registered_lanes(connection):
        if lane.channel in channels and lane not in declared:
            yield Problem(
                lane.channel,
                f"stores messages for {lane_in_words(lane)}, which no listener declares",
                f"If it was renamed, run: python manage.py pgpubsub move {lane.channel} "
                f"--subscription {lane.subscription or repr('')} NEW{database}\n"
                f"If it is gone for good, run: python manage.py pgpubsub unsubscribe "
                f"{lane.channel} --subscription {lane.subscription or repr('')}{database}",
            )


def lane_in_words(lane: Lane) -> str:
    """Return a subscription in words."""
    if lane.subscription:
        return f"the subscription {lane.subscription!r}"
    return "listeners without a subscription"


def describe_unregistered(lanes: Iterable[Lane]) -> Iterator[str]:
    """Yield a sentence without a full stop for each of these *lanes*."""
    for lane in lanes:
        what = lane_in_words(lane)
        yield f"Nothing is stored on channel {lane.channel} for {what}, as it is not registered"
