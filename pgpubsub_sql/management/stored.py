"""``manage.py pgpubsub status | parked | replay | discard | move``."""

from __future__ import annotations

import datetime
import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.models.functions import Now

from pgpubsub_sql.channels import declared_channels, find_channel
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.subcommands import (
    Options,
    Subcommand,
    resolve,
    show,
    with_channels,
    write,
)
from pgpubsub_sql.models import Notification, NotificationQuerySet, Progress
from pgpubsub_sql.sql import query

_AGE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def status(command: BaseCommand, options: Options) -> None:
    """Show how many messages are ready, waiting and parked, how old they are, and who works."""
    stored = {row["channel"]: row for row in _query(options, "status")}
    heard = {channel.postgres_name() for channel in registry.channels()}
    names = dict.fromkeys([*sorted(heard), *stored])
    nothing = {"ready": 0, "waiting": 0, "parked": 0, "oldest": None}
    rows = [
        nothing | stored.get(name, {}) | {"channel": name, "heard": name in heard}
        for name in resolve(options["channels"], names) or names
    ]
    (server,) = _query(options, "workers")
    if options["json"]:
        show(command, {"channels": rows, **server})
        return
    write(command, [_for_people(row) for row in rows], as_json=False, empty="No channel.")
    listen = "worker listens" if server["workers"] == 1 else "workers listen"
    command.stdout.write(
        f"{server['workers']} {listen}; the NOTIFY queue is {server['queue_usage']:.1%} full."
    )


def parked(command: BaseCommand, options: Options) -> None:
    """Show the messages that nobody tries any more, the oldest first, and why."""
    fields = ("id", "channel", "created_at", "attempts", "last_error", "payload")
    rows = list(_parked(options).order_by("pk").values(*fields)[: options["limit"]])
    if not options["json"]:
        rows = [{**row, "last_error": _last_line(row["last_error"])} for row in rows]
    write(command, rows, as_json=options["json"], empty="Nothing is parked.")


def replay(command: BaseCommand, options: Options) -> None:
    """Have parked messages handled again, with all their attempts before them."""
    rows = _parked(options)
    _change(command, options, rows, rows.replay, "replayed")


def discard(command: BaseCommand, options: Options) -> None:
    """Forget parked messages."""
    rows = _parked(options)
    _change(command, options, rows, rows.discard, "discarded")


def move(command: BaseCommand, options: Options) -> None:
    """Make the stored messages of one channel those of another, as after renaming it.

    OLD is the channel's name in PostgreSQL, as status shows it; it need not be declared any more.
    """
    try:
        channel = find_channel(options["new"])
    except ChannelNotFound as error:
        raise CommandError(str(error)) from error
    rows = _chosen(_stored(options).filter(channel=options["old"]), options)

    def change(*, progress: Progress | None = None) -> int:
        return rows.move(channel, progress=progress)

    _change(command, options, rows, change, "moved")


def age(value: str) -> datetime.timedelta:
    """Return an age such as ``90s``, ``15m``, ``2h`` or ``7d``."""
    if not (match := _AGE.fullmatch(value)):
        raise ArgumentTypeError(f"{value!r} is no age: write it as 90s, 15m, 2h or 7d.")
    return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})


def with_choice(parser: ArgumentParser) -> None:
    """Let parked messages be chosen."""
    with_channels(parser)
    _with_properties(parser)


def with_limit(parser: ArgumentParser) -> None:
    """Let parked messages be chosen, and no more be shown than wanted."""
    with_choice(parser)
    parser.add_argument(
        "--limit", type=int, default=50, metavar="N", help="Show no more than these (50)."
    )


def with_count(parser: ArgumentParser) -> None:
    """Let parked messages be chosen and counted."""
    with_choice(parser)
    _with_dry_run(parser)


def with_two_channels(parser: ArgumentParser) -> None:
    """Let messages be chosen of one channel, and moved to another."""
    parser.add_argument("old", metavar="OLD", help="Where they are.")
    parser.add_argument("new", metavar="NEW", help="Where they shall be: a declared channel.")
    _with_properties(parser)
    _with_dry_run(parser)


SUBCOMMANDS = (
    Subcommand(status, with_channels),
    Subcommand(parked, with_limit),
    Subcommand(replay, with_count),
    Subcommand(discard, with_count),
    Subcommand(move, with_two_channels),
)


def _with_properties(parser: ArgumentParser) -> None:
    parser.add_argument("--id", type=int, nargs="+", metavar="ID", help="Only these.")
    parser.add_argument(
        "--older-than", type=age, metavar="AGE", help="Only what was sent so long ago: 15m, 2h, 7d."
    )
    parser.add_argument(
        "--error", metavar="TEXT", help="Only those whose last error contains this, in any case."
    )


def _with_dry_run(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="Only count them.")


def _stored(options: Options) -> NotificationQuerySet:
    return Notification.objects.using(options["database"])


def _parked(options: Options) -> NotificationQuerySet:
    rows = _stored(options).parked()
    if options["channels"]:
        names = rows.order_by("channel").values_list("channel", flat=True).distinct()
        known = [*names, *(channel.postgres_name() for channel in declared_channels())]
        rows = rows.filter(channel__in=resolve(options["channels"], known))
    return _chosen(rows, options)


def _chosen(rows: NotificationQuerySet, options: Options) -> NotificationQuerySet:
    if options["id"]:
        rows = rows.filter(pk__in=options["id"])
    if options["older_than"]:
        rows = rows.filter(created_at__lt=Now() - options["older_than"])
    if options["error"]:
        rows = rows.filter(last_error__icontains=options["error"])
    return rows


def _change(
    command: BaseCommand,
    options: Options,
    rows: NotificationQuerySet,
    change: Callable[..., int],
    done: str,
) -> None:
    """Change *rows*, or only count them, and say how many."""
    count = rows.count()
    if not options["dry_run"]:
        count = change(progress=_progress(command, count))
    if options["json"]:
        show(command, {done: count, "dry_run": options["dry_run"]})
    else:
        noun, were = ("notification", "was") if count == 1 else ("notifications", "were")
        would = "would be" if options["dry_run"] else were
        command.stdout.write(f"{count} {noun} {would} {done}.")


def _progress(command: BaseCommand, total: int) -> Progress | None:
    """Return what draws a progress bar, where somebody looks."""
    if not command.stderr.isatty():
        return None

    def draw(done: int) -> None:
        bar = "#" * round(30 * done / max(done, total))
        command.stderr.write(f"\r[{bar:<30}] {done}/{max(done, total)}", ending="")
        if done >= total:
            command.stderr.write("")

    return draw


def _query(options: Options, name: str) -> list[dict[str, Any]]:
    _stored(options)
    with connections[options["database"]].cursor() as cursor:
        cursor.execute(query(name))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    oldest = None if row["oldest"] is None else datetime.timedelta(seconds=round(row["oldest"]))
    return {
        "channel": row["channel"],
        "ready": row["ready"],
        "waiting": row["waiting"],
        "parked": row["parked"],
        "oldest": oldest,
        "note": "" if row["heard"] else "nobody listens",
    }


def _last_line(error: str) -> str:
    return error.strip().rpartition("\n")[2]
