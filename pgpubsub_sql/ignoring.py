"""Writing without messages: triggers are silenced for one transaction."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from pgpubsub_sql.channels import (
    BaseChannel,
    TriggerChannel,
    declared_channels,
    dotted_path,
    find_channel,
    select_channels,
)
from pgpubsub_sql.errors import ChannelNotFound, OptionError
from pgpubsub_sql.transaction_settings import changed_setting

_SETTING = "pgpubsub.ignore"


def ignore(
    *channels: type[TriggerChannel] | str, using: str | None = None
) -> AbstractContextManager[None]:
    """Silence the triggers of these channels, or of all channels if none is named.

    ::

        with pgpubsub_sql.ignore(AuthorChannel):
            Author.objects.update(name=Upper("name"))

    Name a channel by its class, its module path or its name in PostgreSQL; a base class stands for
    its subclasses. Nested blocks add up. The effect is limited to this transaction, which is opened
    if none is open; ``notify()`` still sends. Does nothing in a failed transaction. Channels with
    ``ignorable = False`` are never silenced.

    Raises :class:`ChannelNotFound` if a name is not that of a trigger channel, and
    :class:`OptionError` if one names a channel with ``ignorable = False``.
    """
    names = _names(channels)
    return changed_setting(_SETTING, lambda outer: _join(outer, names), using=using)


def _names(channels: tuple[type[BaseChannel] | str, ...]) -> set[str] | None:
    """Return the channels' names in PostgreSQL; None stands for all channels."""
    for channel in map(find_channel, channels):
        if not issubclass(channel, TriggerChannel):
            raise ChannelNotFound(
                f"{dotted_path(channel)} has no trigger to silence: only notify() and SQL send on "
                "it. Name subclasses of TriggerChannel."
            )
    # The named channels, too: a module that was reloaded declares other classes.
    chosen = [*map(find_channel, channels), *select_channels(channels, declared_channels())]
    for channel in chosen if channels else ():
        if not channel.ignorable:  # type: ignore[attr-defined]  # all are trigger channels
            raise OptionError(
                f"{dotted_path(channel)} cannot be ignored: it sets ignorable = False. Leave it "
                "out of ignore(), or change the option."
            )
    return {channel.postgres_name() for channel in chosen} if channels else None


def _join(outer: str, names: set[str] | None) -> str:
    """Return the setting that silences *names* in addition to what *outer* silences."""
    try:
        silent = json.loads(outer or "[]")
    except (ValueError, RecursionError):
        silent = []
    if names is None or silent is True:
        return "true"
    if isinstance(silent, list):
        names = names.union(name for name in silent if isinstance(name, str))
    return json.dumps(sorted(names))
