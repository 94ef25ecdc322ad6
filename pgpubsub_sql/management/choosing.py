"""Which stored messages a subcommand is about."""

from __future__ import annotations

import datetime
import re
from argparse import ArgumentParser, ArgumentTypeError

from django.db.models.functions import Now

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.management.subcommands import Options, resolve, with_channels
from pgpubsub_sql.models import Notification, NotificationQuerySet

CHOICES = ("channels", "id", "older_than", "error")
"""The options that narrow a choice."""

_AGE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def age(value: str) -> datetime.timedelta:
    """Return an age such as ``90s``, ``15m``, ``2h`` or ``7d``."""
    if not (match := _AGE.fullmatch(value)):
        raise ArgumentTypeError(f"{value!r} is not an age: write it as 90s, 15m, 2h or 7d.")
    return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})


def with_choice(parser: ArgumentParser) -> None:
    """Let messages be chosen by channel and by what they are like."""
    with_channels(parser)
    with_properties(parser)


def with_properties(parser: ArgumentParser) -> None:
    """Let messages be chosen by what they are like."""
    parser.add_argument("--id", type=int, nargs="+", metavar="ID", help="Only these.")
    parser.add_argument(
        "--older-than", type=age, metavar="AGE", help="Only what was sent so long ago: 15m, 2h, 7d."
    )
    parser.add_argument(
        "--error", metavar="TEXT", help="Only those whose last error contains this, in any case."
    )


def stored(options: Options) -> NotificationQuerySet:
    """Return everything that is stored."""
    return Notification.objects.using(options["database"])


def chosen(rows: NotificationQuerySet, options: Options) -> NotificationQuerySet:
    """Return those of *rows* that were asked for."""
    if options.get("channels"):
        names = rows.order_by("channel").values_list("channel", flat=True).distinct()
        known = [*names, *(channel.postgres_name() for channel in declared_channels())]
        rows = rows.filter(channel__in=resolve(options["channels"], known))
    if options["id"]:
        rows = rows.filter(pk__in=options["id"])
    if options["older_than"]:
        rows = rows.filter(created_at__lt=Now() - options["older_than"])
    if options["error"]:
        rows = rows.filter(last_error__icontains=options["error"])
    return rows
