"""``manage.py pgpubsub relay``: the streams of the broker, as the relay sees them."""

from __future__ import annotations

import datetime
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from pgpubsub_sql.channels import relayed_channels
from pgpubsub_sql.errors import StreamBroken
from pgpubsub_sql.management.base import Options, Row, Subcommand, fetch
from pgpubsub_sql.management.output import write_json, write_rows
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream, every_subject, parse
from pgpubsub_sql.relay.owner import Owner, check_not_foreign, owner_of, this_database
from pgpubsub_sql.relay.position import StreamPosition
from pgpubsub_sql.relay.publishing import CLOSED
from pgpubsub_sql.relay.receiver import received_channels
from pgpubsub_sql.relay.settings import RelaySettings, relay_settings
from pgpubsub_sql.relay.streams import (
    existing,
    make,
    nanoseconds,
    newest,
    problems,
    publisher_permissions,
    receiver_permissions,
    server_configuration,
    streams_of,
    wanted,
)
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.privileges import Role

_NO_STREAM = (
    "There is no stream {!r} on the broker, and none was read here. This lists them: python "
    "manage.py pgpubsub relay --check"
)
_NEVER_READ = "The stream {} was never read here, so nothing is to be accepted."
LATE_SECONDS = 300.0
"""If messages wait, and none was received for so long, something is wrong."""
_NOTHING = (
    "No channel is published or received. Set relay = True on a durable channel, and the name of "
    "this project in PGPUBSUB_RELAY['origin']; or set received_from = \"nats\", and name the "
    "origins of its messages in PGPUBSUB_RELAY['sources']."
)


def relay(command: BaseCommand, options: Options) -> None:
    """Make or check the streams of the broker that this project publishes to or receives from.

    --setup makes the streams of channels with relay = True, and of origins that have none yet. It
    prints what users of the broker must be permitted. After a change of the number of partitions it
    makes new streams; the relay then closes the old ones.

    The streams keep which database publishes to them, and no other one may. --setup --take-over has
    them belong to this one, if it has taken the place of the other: after a restore, pg_upgrade, or
    a move to a logical replica. Stop the relays of the other first.

    --check shows how many messages each stream has taken from this project (out), or this database
    has received from it (in), how many wait there to be received, and what is wrong. It exits with
    1 if anything is.

    --accept begins a stream again that was made anew or rolled back, that has lost messages, or
    whose messages have expired unread: everything that it still holds is read. What was received
    before is not stored again. What is missing stays missing, so have it published again first, at
    most a day before: older ids may be forgotten. A stream that is gone is forgotten.

      manage.py pgpubsub relay --setup
      manage.py pgpubsub relay --check
      manage.py pgpubsub relay --accept 'pgpubsub+shop+blog=2EPostReads+1+0'
    """
    if options["take_over"] and not options["setup"]:
        raise CommandError("--take-over is a part of --setup: give both.")
    try:
        settings = relay_settings()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    with Broker(settings) as broker:
        if options["setup"]:
            _set_up(command, options, broker)
        elif options["accept"]:
            _accept(command, options, broker)
        else:
            _check(command, options, broker)


def _add_arguments(parser: ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--setup", action="store_true", help="Make missing streams, and print permissions."
    )
    action.add_argument(
        "--check", action="store_true", help="Show the streams, and exit with 1 if one is broken."
    )
    action.add_argument("--accept", metavar="STREAM", help="Begin this stream again.")
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="With --setup: publish to streams of another database, whose place this one takes.",
    )


SUBCOMMANDS = (Subcommand(relay, _add_arguments, Role.RECEIVER),)


def _set_up(command: BaseCommand, options: Options, broker: Broker) -> None:
    known = [one for row in fetch(options, query("positions")) if (one := parse(row["stream"]))]
    rows, published = [], []
    ours = this_database(options["database"])
    take_over = options["take_over"]
    for origin, channel in _published(broker.settings):
        there = broker.run(existing(broker, origin, channel))
        found = [*there, *_of(known, origin, channel)]
        streams = wanted(origin, channel, broker.settings, found)
        if not take_over:
            _check_not_foreign(broker, {*newest(there)} - {*streams}, ours)
        rows += [_made(broker, one, ours, take_over=take_over) for one in streams]
        published += sorted({*found, *streams})  # older ones are closed
    received = []
    for origin, channel in _received(broker.settings):
        found = broker.run(existing(broker, origin, channel))
        missing = [] if found else streams_of(origin, channel, broker.settings)
        rows += [{"stream": one.name, "done": "exists"} for one in found]
        rows += [_made(broker, one) for one in missing]
        received += [*found, *missing]
    write_rows(command, rows, as_json=options["json"], empty=_NOTHING)
    if rows and not options["json"]:
        command.stdout.write("\nThe least that users of the broker need, in its configuration:\n")
        command.stdout.write("\n".join(_permissions(published, received)))


def _check_not_foreign(broker: Broker, streams: Iterable[Stream], ours: Owner) -> None:
    """Raise :class:`BrokerRefused` if another database than *ours* publishes to *streams*."""
    for stream in streams:
        info = broker.run(broker.api(f"STREAM.INFO.{stream}"))
        check_not_foreign(stream, owner_of(info), ours)


def _made(
    broker: Broker, stream: Stream, owner: Owner | None = None, *, take_over: bool = False
) -> Row:
    done = broker.run(make(broker, stream, owner, take_over=take_over))
    return {"stream": stream.name, "done": done}


def _permissions(published: list[Stream], received: list[Stream]) -> Iterator[str]:
    if published:
        yield server_configuration("publisher", publisher_permissions(published))
    if received:
        yield server_configuration("receiver", receiver_permissions(received))
    for origin in sorted({one.origin for one in received}):
        subjects = [one.subject for one in received if one.origin == origin]
        yield server_configuration(origin, subjects)


def _check(command: BaseCommand, options: Options, broker: Broker) -> None:
    known = {row["stream"]: row for row in fetch(options, query("positions"))}
    ours = this_database(options["database"])
    rows = [*_outgoing_rows(broker, known, ours), *_rows(broker, known)]
    write_rows(command, rows, as_json=options["json"], empty=_NOTHING)
    if broken := [row["stream"] for row in rows if row["problem"]]:
        raise CommandError(f"Something is wrong with {', '.join(broken)}.", returncode=1)


def _outgoing_rows(broker: Broker, known: Mapping[str, Row], ours: Owner) -> Iterator[Row]:
    """Yield a row for each stream that this project publishes to, or should."""
    for origin, channel in _published(broker.settings):
        found = broker.run(existing(broker, origin, channel))
        used = _of(map(parse, known), origin, channel)
        for stream in sorted({*newest(used), *wanted(origin, channel, broker.settings, found)}):
            info = broker.run(broker.find(f"STREAM.INFO.{stream}"))
            number = int(info["state"]["last_seq"]) if info else 0
            problem = " ".join(broker.run(problems(broker, stream, ours)))
            yield _cells(stream.name, channel, "out", number, None, problem)


def _of(streams: Iterable[Stream | None], origin: str, channel: str) -> list[Stream]:
    """Return those of *streams* that belong to a channel of one origin."""
    return [one for one in streams if one and (one.origin, one.channel) == (origin, channel)]


def _rows(broker: Broker, known: Mapping[str, Row]) -> Iterator[Row]:
    """Yield a row for each stream that exists, or that was read before, or is waited for."""
    for origin, channel in _received(broker.settings):
        found = broker.run(existing(broker, origin, channel))
        streams = sorted({*found, *_of(map(parse, known), origin, channel)})
        yield from (_row(broker, stream, known.get(stream.name)) for stream in streams)
        if not streams:
            problem = f"There is no stream yet: {origin} has to publish this channel."
            yield _cells(every_subject(origin, channel), channel, "in", 0, None, problem)


def _published(settings: RelaySettings) -> Iterator[tuple[str, str]]:
    """Yield each channel that is published, with this project's origin."""
    if settings.origin is not None:
        for channel in relayed_channels():
            yield settings.origin, channel.postgres_name()


def _received(settings: RelaySettings) -> Iterator[tuple[str, str]]:
    """Yield each origin and channel of which messages are received."""
    for channel in received_channels():
        for origin in settings.sources:
            yield origin, channel.postgres_name()


def _row(broker: Broker, stream: Stream, position: Row | None) -> Row:
    info = broker.run(broker.find(f"STREAM.INFO.{stream}"))
    received = position["sequence"] if position else 0
    if info is None:
        problem = position["problem"] if position else ""
        is_closed = position is not None and position["message_id"] == CLOSED
        problem = problem or ("" if is_closed else "It is gone.")
        return _cells(stream.name, stream.channel, "in", received, None, problem)
    last = int(info["state"]["last_seq"])
    waiting = max(0, last - received)
    problem = (
        _problem(stream, info, position)
        or (_late(position) if position and waiting else "")
        or _kept_longer(broker.settings, info)
    )
    return _cells(stream.name, stream.channel, "in", received, waiting, problem)


def _problem(stream: Stream, info: dict[str, Any], position: Row | None) -> str:
    if position is None:
        return "Nothing was received yet. Run: python manage.py listen --relay"
    at = StreamPosition(created=position["created"], sequence=position["sequence"], message_id=None)
    try:
        at.check(stream, info)
    except StreamBroken as error:
        return str(error)
    return str(position["problem"])


def _late(position: Row) -> str:
    """Return what is wrong if messages wait that nobody receives."""
    if position["message_id"] == CLOSED or position["age"] < LATE_SECONDS:
        return ""
    return (
        f"Messages wait, but none was received for {position['age'] // 60:.0f} minutes. See the "
        "log of: python manage.py listen --relay"
    )


def _kept_longer(settings: RelaySettings, info: dict[str, Any]) -> str:
    """Return what is wrong if the stream keeps messages for longer than the inbox knows them."""
    kept = info["config"]["max_age"]
    if 0 < kept <= nanoseconds(settings.max_age):
        return ""
    age = f"for {datetime.timedelta(microseconds=kept // 1000)}" if kept else "without end"
    return (
        f"It keeps messages {age}, longer than PGPUBSUB_RELAY['max_age'] says here. One that is "
        "read again after that may be handled twice. Give both projects the same value"
    )


def _cells(
    stream: str, channel: str, way: str, messages: int, waiting: int | None, problem: str
) -> Row:
    return {
        "stream": stream,
        "channel": channel,
        "way": way,
        "messages": messages,
        "waiting": waiting,
        "problem": problem,
    }


def _accept(command: BaseCommand, options: Options, broker: Broker) -> None:
    name = options["accept"]
    stream = parse(name)
    if stream and stream.origin == broker.settings.origin:
        raise CommandError(_NEVER_READ.format(name))
    info = broker.run(broker.find(f"STREAM.INFO.{name}")) if stream else None
    if info is None:
        done = "It is gone, and its position here is forgotten"
        _change(options, "forget_stream", {"stream": name}, otherwise=_NO_STREAM.format(name))
    else:
        first = StreamPosition.before_all(info)
        done = f"It is read from message {first.sequence + 1} on"
        values = {"stream": name, "created": first.created, "sequence": first.sequence}
        _change(options, "accept_stream", values, otherwise=_NEVER_READ.format(name))
    if options["json"]:
        write_json(command, [{"stream": name, "done": "accepted"}])
    else:
        command.stdout.write(f"{name}: accepted. {done}.")


def _change(options: Options, name: str, values: dict[str, Any], *, otherwise: str) -> None:
    """Execute a query; raise :class:`CommandError` with the text *otherwise* if it finds no row."""
    with connections[options["database"]].cursor() as cursor:
        cursor.execute(query(name), values)
        if not cursor.fetchone():
            raise CommandError(otherwise)
