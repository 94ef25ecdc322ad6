"""``manage.py pgpubsub status``: is everything handled, and by whom?"""

from __future__ import annotations

import datetime
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.choosing import age
from pgpubsub_sql.management.subcommands import (
    Options,
    Subcommand,
    counted,
    resolve,
    run,
    show_json,
    with_channels,
)
from pgpubsub_sql.management.tables import table, width_of
from pgpubsub_sql.sql.privileges import Role

Row = dict[str, Any]

_STATES = ("ready", "in_hand", "delayed", "retrying", "parked")


def status(command: BaseCommand, options: Options) -> None:
    """Show how many messages are in which state, whether workers listen, and what is wrong.

    ready: due. in hand: a worker handles it. delayed: sent with a delay. retrying: failed, and
    waits for its next attempt. parked: failed for good, until somebody replays it. oldest: how
    long the oldest message that is ready has been due.
    """
    rows = _rows(options)
    (server,) = run(options, "workers")
    problems = [*_problems(rows, options), *_of_server(server, options)]
    if options["json"]:
        show_json(command, {"channels": rows, **server, "problems": problems})
    else:
        _write(command, rows, server)
        if not options["check"]:
            command.stdout.write("\n".join(problems))
    if problems and options["check"]:
        raise CommandError("\n".join(problems), returncode=1)


def percentage(value: str) -> float:
    """Return a percentage as a share of 1."""
    try:
        share = float(value.removesuffix("%")) / 100
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"{value!r} is not a percentage from 0 to 100.")
    return share


def with_limits(parser: ArgumentParser) -> None:
    """Let channels be named, and limits be set."""
    with_channels(parser)
    parser.add_argument(
        "--check", action="store_true", help="Exit with 1 if something is wrong: for alerts."
    )
    parser.add_argument(
        "--max-age",
        type=age,
        default="5m",
        metavar="AGE",
        help="How long messages may be due, or in a worker's hands (5m).",
    )
    parser.add_argument(
        "--max-parked", type=int, default=0, metavar="N", help="How many may be parked (0)."
    )
    parser.add_argument(
        "--max-queue",
        type=percentage,
        default="50",
        metavar="PERCENT",
        help="How full PostgreSQL's NOTIFY queue may be (50).",
    )


SUBCOMMANDS = (Subcommand(status, with_limits, Role.READER),)


def _rows(options: Options) -> list[Row]:
    stored = {row["channel"]: row for row in run(options, "status")}
    heard = {channel.postgres_name() for channel in registry.channels()}
    names = dict.fromkeys([*sorted(heard), *stored])
    nothing = dict.fromkeys(_STATES, 0) | dict.fromkeys(("oldest", "in_hand_for", "in_hand_of"))
    return [
        {"channel": name, **nothing, **stored.get(name, {}), "heard": name in heard}
        for name in resolve(options["channels"], names) or names
    ]


def _write(command: BaseCommand, rows: list[Row], server: Row) -> None:
    if rows:
        command.stdout.write(table([_for_people(row) for row in rows], width_of(command)))
    else:
        command.stdout.write("No channel has a listener, and no message is stored.")
    listen = "listens" if server["workers"] == 1 else "listen"
    command.stdout.write(
        f"{counted(server['workers'], 'worker')} {listen} on this database; PostgreSQL's NOTIFY "
        f"queue is {server['queue_usage']:.1%} full."
    )


def _for_people(row: Row) -> Row:
    oldest = "" if row["oldest"] is None else _length(row["oldest"])
    counts = {name.replace("_", " "): row[name] for name in _STATES}
    return {"channel": row["channel"], **counts, "oldest": oldest}


def _problems(rows: list[Row], options: Options) -> Iterator[str]:
    """Yield what is wrong with channels, and what to do about it."""
    limit = options["max_age"].total_seconds()
    for row in rows:
        name, waiting = row["channel"], sum(row[state] for state in _STATES)
        if waiting and not row["heard"]:
            yield (
                f"No listener is declared for {name}, so nobody handles "
                f"{counted(waiting, 'message')}. Declare one, or use pgpubsub move or discard."
            )
        elif (row["oldest"] or 0) > limit:
            yield f"{name}: the oldest message has been due for {_length(row['oldest'])}."
        if (row["in_hand_for"] or 0) > limit:
            yield (
                f"{name}: process {row['in_hand_of']} of the server has had messages in hand for "
                f"{_length(row['in_hand_for'])}. Does a listener hang? A timeout on the channel "
                "ends it."
            )
    parked = sum(row["parked"] for row in rows)
    if parked > options["max_parked"]:
        are = "message is" if parked == 1 else "messages are"
        yield f"{parked} {are} parked. To see why: python manage.py pgpubsub parked"


def _of_server(server: Row, options: Options) -> Iterator[str]:
    if not server["workers"]:
        yield "No worker listens on this database. To start one: python manage.py listen"
    if server["behind"]:
        yield (
            f"{counted(server['behind'], 'worker')} cannot be sent more: a listener runs, and what "
            "was sent on ephemeral channels meanwhile is not read. Until it ends, the server "
            "cannot vacuum what was deleted since. Give slow channels workers of their own "
            "(listen --channels), or a timeout."
        )
    if server["queue_usage"] > options["max_queue"]:
        yield (
            f"PostgreSQL's NOTIFY queue is {server['queue_usage']:.0%} full. Once it is full, "
            "writes fail. A session that has used LISTEN holds it up, in a long transaction: see "
            "pg_stat_activity."
        )


def _length(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
