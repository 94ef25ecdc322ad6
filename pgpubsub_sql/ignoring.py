"""Writing without triggers that tell of it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from pgpubsub_sql import scope
from pgpubsub_sql.channels import (
    BaseChannel,
    TriggerChannel,
    declared_channels,
    dotted_path,
    find_channel,
    select_channels,
)
from pgpubsub_sql.errors import ChannelNotFound, OptionError

_SETTING = "pgpubsub.ignore"


def ignore(
    *channels: type[TriggerChannel] | str, using: str | None = None
) -> AbstractContextManager[None]:
    """Write without being heard: the triggers of these channels, or of all, stay silent.

    ::

        with pgpubsub_sql.ignore(AuthorChannel):
            Author.objects.update(name=Upper("name"))

    A channel is given as its class, its module path or its name in PostgreSQL; a base class
    stands for its subclasses. Blocks within blocks add up. Only this transaction is silent, which
    is opened if there is none, and ``notify()`` is still heard. Does nothing in a transaction that
    has failed. Channels with ``ignorable = False`` are never silent.

    Raises :class:`ChannelNotFound` for what is no trigger channel, and :class:`OptionError` if a
    channel with ``ignorable = False`` is named.
    """
    names = _names(channels)
    return scope.changed(_SETTING, lambda outer: _join(outer, names), using=using)


def _names(channels: tuple[type[BaseChannel] | str, ...]) -> set[str] | None:
    """Return the names in PostgreSQL; None for all there are."""
    for channel in map(find_channel, channels):
        if not issubclass(channel, TriggerChannel):
            raise ChannelNotFound(
                f"{dotted_path(channel)} has no trigger that could stay silent: only notify() "
                "and SQL send on it. Give subclasses of TriggerChannel."
            )
    # With what was asked for itself: after its module was loaded again, another class is declared.
    chosen = [*map(find_channel, channels), *select_channels(channels, declared_channels())]
    for channel in chosen if channels else ():
        if not channel.ignorable:  # type: ignore[attr-defined]  # all are trigger channels
            raise OptionError(
                f"{dotted_path(channel)} cannot be ignored: it sets ignorable = False, so that it "
                "tells of every write. Leave it out of ignore(), or change the option."
            )
    return {channel.postgres_name() for channel in chosen} if channels else None


def _join(outer: str, names: set[str] | None) -> str:
    """Return the setting that silences *names* besides what *outer* silences."""
    try:
        silent = json.loads(outer or "[]")
    except (ValueError, RecursionError):
        silent = []
    if names is None or silent is True:
        return "true"
    if isinstance(silent, list):
        names = names.union(name for name in silent if isinstance(name, str))
    return json.dumps(sorted(names))
