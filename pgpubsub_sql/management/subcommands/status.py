"""``manage.py pgpubsub status``: are messages handled, and what is wrong if they are not?

To add a column: add it to COLUMNS, and to the query ``status`` in ``sql/queries/status.sql``.
"""

from __future__ import annotations

import datetime
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError

from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.base import Options, Row, Subcommand, fetch
from pgpubsub_sql.management.output import output_width, pluralize, table, write_json
from pgpubsub_sql.management.selection import add_channels, duration, resolve_channels
from pgpubsub_sql.models import State
from pgpubsub_sql.sql import part, query, render
from pgpubsub_sql.sql.privileges import Role


def _length(seconds: float | None) -> str:
    return "" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))


class Column(NamedTuple):
    """A value that status shows of each channel."""

    name: str
    """Its name in the query and in JSON."""
    empty: int | None
    """Its value for a channel without stored messages."""
    help: str = ""
    """Its explanation in ``--help``; empty for a value that only JSON has."""
    text: Callable[[Any], object] = lambda value: value
    """Formats it for the table."""

    @property
    def heading(self) -> str:
        """The title of its column in the table."""
        return self.name.replace("_", " ")


COLUMNS = (
    Column("ready", 0, "due; the next free worker handles them"),
    Column("in_flight", 0, "a worker is handling them"),
    Column("delayed", 0, "waiting, because they were sent with a delay"),
    Column("retrying", 0, "waiting, because they failed and will be tried again"),
    Column("parked", 0, "failed for good; not tried again until replayed"),
    Column("oldest", None, "how long the oldest ready message has been due", _length),
    Column("in_flight_seconds", None),
    Column("in_flight_pid", None),
)


def status(command: BaseCommand, options: Options) -> None:
    """Show how many messages are in which state, whether workers listen, and what is wrong.

    Use it when messages do not arrive, and with --check for alerts on the whole database.

      manage.py pgpubsub status
      manage.py pgpubsub status blog.AuthorChannel
      manage.py pgpubsub status --check --max-age 10m

    Columns; all but the last count messages:
    """
    rows = _rows(options)
    (server,) = fetch(options, query("workers"))
    problems = [*_channel_problems(rows, options), *_server_problems(server, options)]
    if options["json"]:
        write_json(command, {"channels": rows, **server, "problems": problems})
    else:
        _write(command, rows, server)
        if not options["check"]:
            command.stdout.write("\n".join(problems))
    if problems and options["check"]:
        raise CommandError("\n".join(problems), returncode=1)


def percentage(value: str) -> float:
    """Parse a percentage, and return it as a fraction of 1."""
    try:
        fraction = float(value.removesuffix("%")) / 100
    except ValueError:
        fraction = -1
    if not 0 <= fraction <= 1:
        raise ArgumentTypeError(f"{value!r} is not a percentage from 0 to 100.")
    return fraction


def _add_limits(parser: ArgumentParser) -> None:
    add_channels(parser)
    parser.add_argument(
        "--check", action="store_true", help="Exit with 1 if something is wrong: for alerts."
    )
    parser.add_argument(
        "--max-age",
        type=duration,
        default="5m",
        metavar="AGE",
        help="How long messages may be due, or in flight (default: 5m).",
    )
    parser.add_argument(
        "--max-parked",
        type=int,
        default=0,
        metavar="N",
        help="How many messages may be parked (default: 0).",
    )
    parser.add_argument(
        "--max-queue",
        type=percentage,
        default="50",
        metavar="PERCENT",
        help="How full PostgreSQL's NOTIFY queue may be (default: 50).",
    )


SUBCOMMANDS = (
    Subcommand(
        status,
        _add_limits,
        Role.READER,
        legend="".join(f"  {one.heading:<10}{one.help}\n" for one in COLUMNS if one.help),
    ),
)


def _rows(options: Options) -> list[Row]:
    by_state = render("queries/status", state=part("queries/state"))
    stored = {row["channel"]: row for row in fetch(options, by_state)}
    listened_to = {channel.postgres_name() for channel in registry.channels()}
    names = dict.fromkeys([*sorted(listened_to), *stored])
    empty = {column.name: column.empty for column in COLUMNS}
    return [
        {"channel": name, **empty, **stored.get(name, {}), "has_listener": name in listened_to}
        for name in resolve_channels(options["channels"], names) or names
    ]


def _write(command: BaseCommand, rows: list[Row], server: Row) -> None:
    if rows:
        command.stdout.write(table([_for_table(row) for row in rows], output_width(command)))
    else:
        command.stdout.write("No channel has a listener, and no message is stored.")
    listen = "listens" if server["workers"] == 1 else "listen"
    command.stdout.write(
        f"{pluralize(server['workers'], 'worker')} {listen} on this database; PostgreSQL's NOTIFY "
        f"queue is {server['queue_usage']:.1%} full."
    )


def _for_table(row: Row) -> Row:
    cells = {one.heading: one.text(row[one.name]) for one in COLUMNS if one.help}
    return {"channel": row["channel"], **cells}


def _channel_problems(rows: list[Row], options: Options) -> Iterator[str]:
    """Yield what is wrong with channels, and the remedy."""
    limit = options["max_age"].total_seconds()
    for row in rows:
        name, stored = row["channel"], sum(row[state] for state in State)
        if stored and not row["has_listener"]:
            yield (
                f"No listener is declared for {name}, so nobody handles "
                f"{pluralize(stored, 'message')}. Declare one, or use pgpubsub move or discard."
            )
        elif (row["oldest"] or 0) > limit:
            yield (
                f"{name}: the oldest message has been due for {_length(row['oldest'])}. Run more "
                "workers, or find out what keeps them busy."
            )
        if (row["in_flight_seconds"] or 0) > limit:
            yield (
                f"{name}: messages have been in flight for {_length(row['in_flight_seconds'])}, in "
                f"process {row['in_flight_pid']} of the server. If a listener hangs, set a timeout "
                "on the channel."
            )
    parked = sum(row["parked"] for row in rows)
    if parked > options["max_parked"]:
        are = "message is" if parked == 1 else "messages are"
        yield f"{parked} {are} parked. To see why: python manage.py pgpubsub parked"


def _server_problems(server: Row, options: Options) -> Iterator[str]:
    """Yield what is wrong with workers and the server, and the remedy."""
    if not server["workers"]:
        yield "No worker listens on this database. To start one: python manage.py listen"
    if server["behind"]:
        yield (
            f"{pluralize(server['behind'], 'worker')} cannot be sent more: while a listener runs, "
            "messages of ephemeral channels are not read. Until it ends, PostgreSQL cannot vacuum "
            "rows that were deleted since. Give slow channels workers of their own "
            "(listen --channels), or a timeout."
        )
    if server["queue_usage"] > options["max_queue"]:
        yield (
            f"PostgreSQL's NOTIFY queue is {server['queue_usage']:.0%} full. Once it is full, "
            "writes fail. A session that listens and is in a long transaction holds it up: find it "
            "in pg_stat_activity."
        )
