"""``manage.py pgpubsub status``: are messages handled, and what is wrong if they are not?

To add a column: add it to COLUMNS, to the query ``status`` in ``sql/queries/status.sql``, and in
``inspection.py`` to ``StoredCounts`` and to ``_stored_counts()``, which makes one of a row.
"""

from __future__ import annotations

import datetime
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError

from pgpubsub_sql.counting import Rate, rates
from pgpubsub_sql.inspection import (
    MAX_DEAD,
    MAX_QUEUE,
    MOST,
    LongCall,
    StoredCounts,
    TableCare,
    capped,
    declared,
    filled_lanes,
    is_polled,
    long_calls,
    paused_lanes,
    stored_counts,
    stored_lanes,
    table_care,
)
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.base import Options, Row, Subcommand, fetch, positive
from pgpubsub_sql.management.output import output_width, pluralize, table, write_json
from pgpubsub_sql.management.selection import add_channels, duration, resolve_channels
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.own_tables import RELAY
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.subscriptions import Lane


def _length(seconds: float | None) -> str:
    return "" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))


class StatusColumn(NamedTuple):
    """A value of :class:`StoredCounts` that status shows of each channel."""

    name: str
    """Its name there, and in JSON."""
    help: str
    """Its explanation in ``--help``."""
    text: Callable[[Any], str] = capped
    """Formats it for the table."""

    @property
    def heading(self) -> str:
        """The title of its column in the table."""
        return self.name.replace("_", " ")


COLUMNS = (
    StatusColumn("ready", "due; the next free worker handles them"),
    StatusColumn("in_flight", "due; a worker is handling them"),
    StatusColumn("waiting", "not due yet: sent with a delay, or failed and to be retried"),
    StatusColumn("failed", "whose last attempt failed: parked, to be retried, or due again"),
    StatusColumn("parked", "failed for good; not tried again until replayed"),
    StatusColumn("oldest", "how long the oldest ready message has been due", _length),
)


def status(command: BaseCommand, options: Options) -> None:
    """Show how many messages are in which state, whether workers listen, and what is wrong.

    Use it when messages do not arrive, and with --check for alerts on the whole database.

      manage.py pgpubsub status
      manage.py pgpubsub status blog.AuthorChannel
      manage.py pgpubsub status --check --max-age 10m

    Columns; all but oldest count messages, up to 10,000 of a channel. In JSON, 10001 stands for
    more. What has failed is counted as ready or waiting, too, unless it is parked:
    """
    rows = _rows(options)
    (server,) = fetch(options, query("workers"))
    care = table_care(options["database"])
    shown = {row.lane.channel for row in rows}
    calls = [one for one in long_calls(options["database"]) if one.channel in shown]
    problems = [
        *_channel_problems(rows, calls, options),
        *_relay_problems(rows, server, options),
        *_server_problems(rows, server, care, options),
        *_vacuum_problems(care, options),
    ]
    if options["json"]:
        long = [one._asdict() for one in calls]
        found = rates(options["database"])
        channels = [_as_json(row) | _rates_as_json(found.get(row.lane)) for row in rows]
        facts = server | _care_as_json(care)
        write_json(command, {"channels": channels, "long": long, **facts, "problems": problems})
    else:
        _write(command, rows, server, care)
        for line in [*map(_long, calls), *_pauses(rows)]:
            command.stdout.write(line)
        for row in rows:
            if row.filled:
                command.stdout.write(str(row.filled))
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


def most_parked(value: str) -> int:
    """Parse a number of messages that may be parked."""
    if not value.isdecimal() or int(value) > MOST:
        raise ArgumentTypeError(
            f"{value!r} is not a number from 0 to {MOST}: nobody counts further."
        )
    return int(value)


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
        type=most_parked,
        default=0,
        metavar="N",
        help=f"How many messages may be parked, up to {MOST:,} (default: 0).",
    )
    parser.add_argument(
        "--max-queue",
        type=percentage,
        default=f"{MAX_QUEUE:.0%}",
        metavar="PERCENT",
        help="How full PostgreSQL's NOTIFY queue may be (default: 50).",
    )
    parser.add_argument(
        "--max-transaction",
        type=duration,
        default="1h",
        metavar="AGE",
        help="How long a transaction may keep vacuum from removing dead rows (default: 1h).",
    )
    parser.add_argument(
        "--max-dead",
        type=positive,
        default=MAX_DEAD,
        metavar="N",
        help=f"How many rows of stored messages may be dead (default: {MAX_DEAD:,}).",
    )


SUBCOMMANDS = (
    Subcommand(
        status,
        _add_limits,
        Role.READER,
        legend="".join(f"  {one.heading:<10}{one.help}\n" for one in COLUMNS),
    ),
)


def _rows(options: Options) -> list[StoredCounts]:
    using = options["database"]
    known = [stored_lanes(using), paused_lanes(using), filled_lanes(using)]
    lanes = dict.fromkeys([*_listened_to(), *chain.from_iterable(known)])
    names = dict.fromkeys(lane.channel for lane in lanes)
    chosen = resolve_channels(options["channels"], names) or list(names)
    found = stored_counts(using, lanes)
    return [found[lane] for name in chosen for lane in lanes if lane.channel == name]


def _listened_to() -> list[Lane]:
    return sorted(registry.lanes_of(registry.channels()))


def _is_polled(name: str) -> bool:
    channel = declared(name)
    return channel is not None and is_polled(channel)


def _as_json(row: StoredCounts) -> Row:
    longest = row.holders[0] if row.holders else None
    return {
        **row.lane._asdict(),
        **{column.name: getattr(row, column.name) for column in COLUMNS},
        "in_flight_seconds": longest and longest.seconds,
        "in_flight_pid": longest and longest.pid,
        "paused_seconds": row.paused_seconds,
        "filled_to": row.filled and row.filled.filled_to,
        "fill_until": row.filled and row.filled.fill_until,
        "has_listener": row.lane in _listened_to(),
        "is_polled": _is_polled(row.lane.channel),
    }


def _rates_as_json(rate: Rate | None) -> Row:
    handled, failed = rate or (0.0, 0.0)
    return {"handled_per_minute": handled, "failed_per_minute": failed}


def _care_as_json(care: TableCare) -> Row:
    return {
        "queue_usage": care.queue_usage,
        "dead_rows": care.dead,
        "live_rows": care.live,
        "vacuum_seconds": care.vacuumed,
        "oldest_transaction": care.oldest and care.oldest._asdict(),
    }


def _write(command: BaseCommand, rows: list[StoredCounts], server: Row, care: TableCare) -> None:
    if rows:
        shown = [_for_table(row) for row in rows]
        command.stdout.write(table(shown, output_width(command)))
    else:
        command.stdout.write("No channel has a listener, and no message is stored.")
    if any(_is_polled(row.lane.channel) for row in rows):
        command.stdout.write("* Workers poll this channel; its writers do not notify them.")
    listen = "listens" if server["workers"] == 1 else "listen"
    command.stdout.write(
        f"{pluralize(server['workers'], 'worker')} {listen} on this database; PostgreSQL's NOTIFY "
        f"queue is {care.queue_usage:.1%} full."
    )
    if any(row.lane.subscription == RELAY for row in rows):
        command.stdout.write(_relays(server))


def _relays(server: Row) -> str:
    """Return how many relays publish, and whether the broker takes it."""
    publish = "publishes" if server["relays"] == 1 else "publish"
    stuck = f"; the broker takes nothing from {server['relays_stuck']} of them now"
    found = f"{pluralize(server['relays'], 'relay')} {publish} from this database"
    return f"{found}{stuck if server['relays_stuck'] else ''}."


def _for_table(row: StoredCounts) -> Row:
    mark = " *" if _is_polled(row.lane.channel) else ""
    cells = {one.heading: one.text(getattr(row, one.name)) for one in COLUMNS}
    if row.parked < row.failed > MOST:
        cells["parked"] += "+"
    return {"channel": f"{row.lane}{mark}", **cells}


def _long(call: LongCall) -> str:
    """Return who has been handling what for long, and where."""
    return f"{_handling(call)}, in process {call.process} on {call.host}."


def _handling(call: LongCall) -> str:
    what = "a message" if call.message is None else f"message {call.message}"
    return (
        f"{call.channel}: {call.listener or 'a worker'} has been handling {what} for "
        f"{_length(call.seconds)}"
    )


def _pauses(rows: list[StoredCounts]) -> Iterator[str]:
    """Yield which channels are paused, and how to go on."""
    for row in rows:
        if row.paused_seconds is not None:
            yield (
                f"{row.lane} has been paused for {_length(row.paused_seconds)}. To go on: "
                f"python manage.py pgpubsub resume {_named(row.lane)}"
            )


def _named(lane: Lane) -> str:
    """Return the arguments that name *lane* to a command."""
    name = lane.subscription
    return f"{lane.channel} --subscription {name}" if name else lane.channel


def _channel_problems(
    rows: list[StoredCounts], calls: list[LongCall], options: Options
) -> Iterator[str]:
    """Yield what is wrong with channels, and the remedy."""
    limit, listened_to = options["max_age"].total_seconds(), _listened_to()
    hung = [one for one in calls if one.seconds > limit]
    for one in hung:
        yield (
            f"{_handling(one)}. If it hangs, kill process {one.process} on {one.host}, and set a "
            "timeout on the channel."
        )
    known = {one.channel for one in hung}
    for row in rows:
        if row.stored and row.lane not in listened_to:
            yield (
                f"No listener is declared for {row.lane}, so nobody handles "
                f"{_messages(row.stored)}. Declare one, or use pgpubsub move or discard."
            )
        elif _is_late(row, limit) and row.lane.subscription != RELAY:
            yield (
                f"{row.lane}: the oldest message has been due for {_length(row.oldest)}. Run "
                "more workers, or find out what keeps them busy."
            )
        if row.lane.channel in known:
            continue
        if row.holders and (row.holders[0].seconds or 0) > limit:
            longest = row.holders[0]
            yield (
                f"{row.lane}: messages have been in flight for {_length(longest.seconds)}, in "
                f"process {longest.pid} of the server. If a listener hangs, set a timeout on the "
                "channel."
            )
    yield from _failure_problems(rows, options["max_parked"])


def _is_late(row: StoredCounts, limit: float) -> bool:
    is_held_up = row.paused_seconds is not None or row.filled is not None
    return (row.oldest or 0) > limit and not is_held_up


def _relay_problems(rows: list[StoredCounts], server: Row, options: Options) -> Iterator[str]:
    """Yield what keeps the relay from publishing, and the remedy."""
    relayed = [row for row in rows if row.lane.subscription == RELAY]
    names = ", ".join(row.lane.channel for row in relayed)
    if relayed and not server["relays"]:
        yield f"Nobody publishes {names}. To start a relay: python manage.py listen --relay"
    elif relayed and server["relays_stuck"]:
        yield (
            f"The broker does not take what the relay publishes: {names}. Messages wait. To see "
            "why: python manage.py pgpubsub relay --check"
        )
    else:
        for row in relayed:
            if _is_late(row, options["max_age"].total_seconds()):
                yield (
                    f"{row.lane}: the oldest message has been due for {_length(row.oldest)}. See "
                    "the log of listen --relay, and: python manage.py pgpubsub relay --check"
                )


def _failure_problems(rows: list[StoredCounts], max_parked: int) -> Iterator[str]:
    # Parked ones behind the first 10,000 that failed are not counted, so that is a problem itself.
    for row in rows:
        if row.failed > MOST:
            yield (
                f"More than {MOST:,} messages of {row.lane} have failed. To see them: "
                f"python manage.py pgpubsub failed {_named(row.lane)}"
            )
    parked = sum(row.parked for row in rows)
    if parked > max_parked:
        are = "is" if parked == 1 else "are"
        yield f"{_messages(parked)} {are} parked. To see why: python manage.py pgpubsub parked"


def _messages(number: int) -> str:
    return f"{capped(number)} message{'' if number == 1 else 's'}"


def _server_problems(
    rows: list[StoredCounts], server: Row, care: TableCare, options: Options
) -> Iterator[str]:
    """Yield what is wrong with workers and the server, and the remedy."""
    if not server["workers"] and not _are_all_relayed(rows):
        yield "No worker listens on this database. To start one: python manage.py listen"
    if server["behind"]:
        yield (
            f"{pluralize(server['behind'], 'worker')} cannot be sent more: while a listener runs, "
            "messages of ephemeral channels are not read. Until it ends, PostgreSQL cannot vacuum "
            "rows that were deleted since. Give slow channels workers of their own "
            "(listen --channels), or a timeout."
        )
    if care.queue_usage > options["max_queue"]:
        yield (
            f"PostgreSQL's NOTIFY queue is {care.queue_usage:.0%} full. Once it is full, "
            "writes fail. A session that listens and is in a long transaction holds it up: find it "
            "in pg_stat_activity."
        )


def _are_all_relayed(rows: list[StoredCounts]) -> bool:
    return bool(rows) and all(row.lane.subscription == RELAY for row in rows)


def _vacuum_problems(care: TableCare, options: Options) -> Iterator[str]:
    """Yield what keeps dead rows in the table, which every search for messages has to pass."""
    oldest = care.oldest
    if oldest and oldest.seconds > options["max_transaction"].total_seconds():
        end = f"pg_terminate_backend({oldest.pid})" if oldest.pid else "ROLLBACK PREPARED"
        yield (
            f"The transaction of {oldest.title} has been open for {_length(oldest.seconds)}. Until "
            "it ends, vacuum cannot remove rows that were deleted since, and taking messages gets "
            f"slower. End it ({end}), or have it commit."
        )
    if care.dead > options["max_dead"]:
        last = "never" if care.vacuumed is None else f"last {_length(care.vacuumed)} ago"
        yield (
            f"The table of messages has {care.dead:,} dead rows, and was vacuumed {last}. Find out "
            "what keeps vacuum from removing them: a long transaction, a replication slot, or "
            "autovacuum that is off. Then: VACUUM pgpubsub_sql_notification"
        )
