"""``manage.py pgpubsub pause | resume``: workers leave a channel's messages alone for a while."""

from __future__ import annotations

import shlex
import time
from argparse import ArgumentParser
from collections.abc import Sequence

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from pgpubsub_sql import pausing
from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.inspection import paused_lanes
from pgpubsub_sql.management.base import Options, Row, Subcommand, fetch
from pgpubsub_sql.management.output import pluralize, write_json
from pgpubsub_sql.management.selection import add_channels, add_subscription, resolve_channels
from pgpubsub_sql.migrations_ops.subscriptions import registered_lanes
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.subscriptions import Lane

LOOK_SECONDS = 0.2
"""Time between two looks whether messages are still in flight."""


def pause(command: BaseCommand, options: Options) -> None:
    """Have workers take no more messages of durable channels, until they are resumed.

    Use it while something that the listeners need is down. Messages are stored meanwhile. The
    command waits until those that workers have taken before are handled.

      manage.py pgpubsub pause blog.Mail
      manage.py pgpubsub pause blog.Mail --no-wait
      manage.py pgpubsub pause blog.Orders --subscription mail
    """
    names, subscription = _durable(options["channels"]), options["subscription"]
    _check_registered(options, names)
    pausing.pause(options["database"], names, subscription)
    if options["wait"]:
        _await_those_in_flight(command, options, names)
    _write(command, options, [{"channel": name, "done": "paused"} for name in names])
    if not options["json"]:
        named = "" if subscription is None else f" --subscription {shlex.quote(subscription)}"
        command.stdout.write(
            f"To go on: python manage.py pgpubsub resume {' '.join(options['channels'])}{named}"
        )


def resume(command: BaseCommand, options: Options) -> None:
    """Have workers take the messages of paused channels again, now.

    manage.py pgpubsub resume blog.Mail
    manage.py pgpubsub resume blog.Orders --subscription mail
    """
    using, paused = options["database"], paused_lanes(options["database"])
    declared = [channel.postgres_name() for channel in declared_channels()]
    known = [*(lane.channel for lane in paused), *declared]
    names = resolve_channels(options["channels"], known)
    resumed = {lane.channel for lane in pausing.resume(using, names, options["subscription"])}
    done = {True: "resumed", False: "not paused"}
    _write(command, options, [{"channel": name, "done": done[name in resumed]} for name in names])


def _add_channels(parser: ArgumentParser) -> None:
    add_channels(parser, nargs="+")
    add_subscription(parser)


def _add_wait(parser: ArgumentParser) -> None:
    _add_channels(parser)
    parser.add_argument(
        "--no-wait",
        action="store_false",
        dest="wait",
        help="Do not wait for messages that workers have taken before.",
    )


SUBCOMMANDS = (
    Subcommand(pause, _add_wait, Role.PAUSER),
    Subcommand(resume, _add_channels, Role.PAUSER),
)


def _durable(references: Sequence[str]) -> list[str]:
    """Return the names in PostgreSQL of channels, all of which must be durable."""
    channels = {channel.postgres_name(): channel for channel in declared_channels()}
    names = resolve_channels(references, channels)
    if ephemeral := [name for name in names if not channels[name].lock_notifications]:
        raise CommandError(
            f"{', '.join(ephemeral)} cannot be paused: messages of ephemeral channels are not "
            "stored, so what is sent meanwhile would be lost. Make the channel durable "
            "(lock_notifications = True), or run the workers with --exclude."
        )
    return names


def _check_registered(options: Options, names: Sequence[str]) -> None:
    """Raise :class:`CommandError` if a channel lacks the subscription of *options*."""
    subscription = options["subscription"]
    registered = registered_lanes(connections[options["database"]])
    for name in names:
        known = [lane.subscription for lane in registered if lane.channel == name] or [""]
        if subscription is not None and subscription not in known:
            raise CommandError(
                f"{name} has no subscription {subscription!r} that is registered, only "
                f"{', '.join(map(repr, known))}. If it is declared, run: python manage.py migrate"
            )


def _await_those_in_flight(command: BaseCommand, options: Options, names: list[str]) -> None:
    ((until,),) = (row.values() for row in fetch(options, query("now")))
    subscription = options["subscription"]
    values = {"channels": names, "subscription": subscription, "until": until}
    has_told = False
    while holders := fetch(options, query("still_in_flight"), values):
        if not has_told:
            pids = ", ".join(str(one["pid"]) for one in holders)
            command.stderr.write(
                f"Waiting for messages that are in flight in {pluralize(len(holders), 'session')} "
                f"of the server ({pids}). Ctrl-C leaves the channels paused.",
                style_func=str,
            )
            has_told = True
        time.sleep(LOOK_SECONDS)


def _write(command: BaseCommand, options: Options, rows: list[Row]) -> None:
    if options["json"]:
        write_json(command, rows)
        return
    for row in rows:
        lane = Lane(row["channel"], options["subscription"] or "")
        command.stdout.write(f"{lane}: {row['done']}")
