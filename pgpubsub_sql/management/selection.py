"""The channels and messages that a command acts on: the arguments that select them."""

from __future__ import annotations

import datetime
import difflib
import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Sequence

from django.core.management.base import CommandError
from django.db.models.functions import Now

from pgpubsub_sql.channels import declared_channels, find_channel
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.management.base import Options
from pgpubsub_sql.models import Notification, NotificationQuerySet

FILTERS = ("channels", "subscription", "id", "older_than", "error")
"""The options that narrow a selection of messages."""

_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_channels(parser: ArgumentParser, *, nargs: str = "*") -> None:
    """Add the arguments ``CHANNEL …``."""
    parser.add_argument(
        "channels",
        nargs=nargs,
        metavar="CHANNEL",
        help="A channel, by its name in PostgreSQL (blog.AuthorChannel) or its module path "
        "(blog.channels.AuthorChannel).",
    )


def add_subscription(parser: ArgumentParser) -> None:
    """Add ``--subscription``."""
    parser.add_argument(
        "--subscription",
        metavar="NAME",
        help="Only of the subscription with this name; '' for listeners without one.",
    )


def add_filters(parser: ArgumentParser) -> None:
    """Add the options that filter messages."""
    parser.add_argument("--id", type=int, nargs="+", metavar="ID", help="Only these messages.")
    parser.add_argument(
        "--older-than",
        type=duration,
        metavar="AGE",
        help="Only messages sent at least this long ago: 90s, 15m, 2h, 7d.",
    )
    parser.add_argument(
        "--error",
        metavar="TEXT",
        help="Only messages whose last error contains TEXT, in upper or lower case.",
    )


def duration(value: str) -> datetime.timedelta:
    """Parse a duration such as ``90s``, ``15m``, ``2h`` or ``7d``."""
    if not (match := _DURATION.fullmatch(value)):
        raise ArgumentTypeError(f"{value!r} is not a duration: write it as 90s, 15m, 2h or 7d.")
    return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})


def spell_duration(value: datetime.timedelta) -> str:
    """Return *value* as :func:`duration` parses it, rounded down to a second."""
    sizes = {letter: datetime.timedelta(**{unit: 1}) for letter, unit in _UNITS.items()}
    whole = [letter for letter, size in sizes.items() if not value % size]
    letter = whole[-1] if whole else "s"
    return f"{value // sizes[letter]}{letter}"


def resolve_channels(references: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the names in PostgreSQL of channels, each of which must be in *known*.

    Raises :class:`CommandError`, with a suggestion if a name comes close.
    """
    names = list(known)
    return [_resolve(reference, names) for reference in references]


def _resolve(reference: str, known: Sequence[str]) -> str:
    name = reference
    if reference not in known:
        try:
            name = find_channel(reference).postgres_name()
        except ChannelNotFound as error:
            close = difflib.get_close_matches(reference, known, n=1)
            raise CommandError(
                f"No channel is called {reference!r}. Did you mean {close[0]!r}?"
                if close
                else str(error)
            ) from None
    if name not in known:
        raise CommandError(
            f"Channel {name!r} is declared, but this command has nothing to do for it: it has no "
            "trigger, or neither a stored message nor a listener."
        )
    return name


def stored_messages(options: Options) -> NotificationQuerySet:
    """Return all messages stored in the database of *options*."""
    return Notification.objects.using(options["database"])


def select(rows: NotificationQuerySet, options: Options) -> NotificationQuerySet:
    """Return those of *rows* that *options* select."""
    if options.get("channels"):
        names = rows.order_by("channel").values_list("channel", flat=True).distinct()
        known = [*names, *(channel.postgres_name() for channel in declared_channels())]
        rows = rows.filter(channel__in=resolve_channels(options["channels"], known))
    if options.get("subscription") is not None:
        rows = rows.filter(subscription=options["subscription"])
    if options["id"]:
        rows = rows.filter(pk__in=options["id"])
    if options["older_than"]:
        rows = rows.filter(created_at__lt=Now() - options["older_than"])
    if options["error"]:
        rows = rows.filter(last_error__icontains=options["error"])
    return rows
