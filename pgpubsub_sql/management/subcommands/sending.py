"""``manage.py pgpubsub send``: send a message by hand."""

from __future__ import annotations

import datetime
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    TriggerChannel,
    codec,
    declared_channels,
    find_channel,
)
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.base import Options, Subcommand, fetch
from pgpubsub_sql.management.output import write_json
from pgpubsub_sql.management.selection import duration, resolve_channels
from pgpubsub_sql.notify import notify
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import check_role


def send(command: BaseCommand, options: Options) -> None:
    """Send a message, to try a listener out.

    FIELD=TEXT gives a field as text, which becomes the type that the channel declares. FIELD:=JSON
    gives one as JSON: lists, objects, null. --payload gives all of them as one JSON object.

      manage.py pgpubsub send blog.PostReads model_id=1 date=2026-01-31
      manage.py pgpubsub send blog.PostReads model_id=1 date=2026-01-31 'tags:=["a", "b"]'
      manage.py pgpubsub send blog.PostReads --payload - < message.json
      manage.py pgpubsub send blog.Reminders text=Hello --delay 10m

    On a trigger channel only the database sends: change a row of its model instead.
    """
    channel = _channel(options["channel"])
    is_durable = channel.lock_notifications
    role = Role.DURABLE_SENDER if is_durable else Role.EPHEMERAL_SENDER
    check_role(connections[options["database"]], role)
    fields = codec(channel)
    given = _given(options)
    fields.check_names(given)
    message = channel(**fields.decode(json.dumps(given)))
    times = {name: options[name] for name in ("delay", "at") if options[name] is not None}
    notify(message, using=options["database"], **times)
    sent = {name: getattr(message, name) for name in fields.fields}
    _report(command, options, channel, json.loads(fields.encode(sent)))


def moment(text: str) -> datetime.datetime:
    """Parse a date with a time, in the project's time zone unless it names one."""
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError(f"{text!r} is not a time: write it as 2026-01-31T10:00.")
    return timezone.make_aware(found) if timezone.is_naive(found) else found


def _add_message(parser: ArgumentParser) -> None:
    parser.add_argument(
        "channel",
        metavar="CHANNEL",
        help="A channel, by its name in PostgreSQL (blog.PostReads) or its module path.",
    )
    parser.add_argument("fields", nargs="*", metavar="FIELD=TEXT", help="Fields of the message.")
    parser.add_argument(
        "--payload", metavar="JSON", help="All fields, as a JSON object; - reads standard input."
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--delay",
        type=duration,
        metavar="TIME",
        help="Have it handled after 90s, 15m, 2h or 7d; on durable channels.",
    )
    when.add_argument(
        "--at", type=moment, metavar="TIME", help="Have it handled at 2026-01-31T10:00."
    )


SUBCOMMANDS = (Subcommand(send, _add_message, Role.WRITER),)


def _channel(reference: str) -> type[Channel]:
    names = [channel.postgres_name() for channel in declared_channels()]
    channel = find_channel(*resolve_channels([reference], names))
    if issubclass(channel, TriggerChannel):
        model = channel.model if isinstance(channel.model, str) else channel.model._meta.label
        raise CommandError(
            f"On the trigger channel {channel.postgres_name()} only the database sends, when rows "
            f"of {model} change. Change one, for example in python manage.py shell."
        )
    return cast(type[Channel], channel)


def _given(options: Options) -> dict[str, Any]:
    """Return the fields that were given: text as it is, JSON as what it stands for."""
    if options["payload"] is None:
        return dict(map(_field, options["fields"]))
    if options["fields"]:
        raise CommandError("--payload has all fields: leave out FIELD=TEXT, or --payload.")
    text = sys.stdin.read() if options["payload"] == "-" else options["payload"]
    given = _json("--payload", text)
    if not isinstance(given, dict):
        raise CommandError(f'--payload: {text} is not a JSON object, such as {{"field": 1}}.')
    return given


def _field(argument: str) -> tuple[str, Any]:
    name, sign, text = argument.partition("=")
    if not sign or not name.rstrip(":"):
        raise CommandError(f"{argument!r} names no field: write FIELD=TEXT or FIELD:=JSON.")
    return (name[:-1], _json(name[:-1], text)) if name.endswith(":") else (name, text)


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{name}: {text} is not JSON: {error}.") from error


def _report(
    command: BaseCommand, options: Options, channel: type[Channel], payload: dict[str, Any]
) -> None:
    """Say what was sent, and why nobody may hear of it."""
    (server,) = fetch(options, query("workers"))
    name, problems = channel.postgres_name(), list(_problems(channel, server["workers"]))
    if options["json"]:
        write_json(command, {"channel": name, "payload": payload, "problems": problems})
        return
    word = "Stored" if channel.lock_notifications else "Sent"
    text = json.dumps(payload, ensure_ascii=False)
    command.stdout.write("\n".join([f"{word} on {name}: {text}", *problems]))


def _problems(channel: type[BaseChannel], workers: int) -> list[str]:
    name, found = channel.postgres_name(), []
    if not registry.listeners_of(channel):
        found.append(f"No listener is declared for {name}.")
    if not workers and channel.lock_notifications:
        found.append("It waits, as no worker listens. To start one: python manage.py listen")
    elif not workers:
        found.append(
            "Nobody has heard it, as no worker listens. Start one first: python manage.py listen"
        )
    return found
