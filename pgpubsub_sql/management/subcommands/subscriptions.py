"""``manage.py pgpubsub unsubscribe``, and ``move --subscription``: what is registered changes."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from pgpubsub_sql.inspection import stored_lanes
from pgpubsub_sql.management.base import Options, Subcommand
from pgpubsub_sql.management.output import pluralize, progress_bar, write_json
from pgpubsub_sql.management.prompts import add_noinput, confirm
from pgpubsub_sql.management.selection import resolve_channels, select
from pgpubsub_sql.migrations_ops.subscriptions import declared_lanes, registered_lanes
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import check_role
from pgpubsub_sql.subscribing import movable, rename, unregister
from pgpubsub_sql.subscriptions import Lane, check_name


def unsubscribe(command: BaseCommand, options: Options) -> None:
    """End a subscription: store nothing more for it, and delete what is stored.

    Use it after its last listener was removed, in every process. This cannot be undone.

      manage.py pgpubsub unsubscribe blog.Orders --subscription mail
    """
    lane = _known(options, options["channel"], options["subscription"])
    if lane in declared_lanes():
        raise CommandError(
            f"{lane} has listeners in this code, so migrate would register it again. Remove them "
            "first."
        )
    rows = movable(options["database"], lane)
    count = rows.count()
    confirm(command, options, f"End {lane}, and delete {pluralize(count, 'message')} for good?")
    unregister(options["database"], lane)
    deleted = rows.discard(progress=progress_bar(command, count))
    left = rows.count()
    if options["json"]:
        write_json(command, {**lane._asdict(), "discarded": deleted, "left": left})
        return
    command.stdout.write(f"{lane} has ended. {pluralize(deleted, 'message')} deleted.")
    if left:
        command.stdout.write(
            f"{pluralize(left, 'message')} left, in flight or just stored. Run it again."
        )


def rename_subscription(command: BaseCommand, options: Options) -> None:
    """Rename a subscription, as far as the new name has not got its messages by itself."""
    using, (old, new) = options["database"], options["subscription"]
    check_role(connections[using], Role.REGISTRAR)
    if options["new"] is not None:
        raise CommandError("Name one channel: with --subscription, messages stay in theirs.")
    lane = _known(options, options["old"], old)
    target = Lane(lane.channel, new)
    try:
        check_name(new, f"The channel {lane.channel}")
    except ValueError as error:
        raise CommandError(str(error)) from error
    filters = options | {"channels": [], "subscription": None}
    if options["dry_run"]:
        count = select(movable(using, lane), filters).count()
        return _tell(command, options, count, f"would be moved from {lane} to {target}.")
    confirm(command, options, f"Rename {lane} to {target}?")
    since = rename(using, lane, new)
    rows = select(movable(using, lane, since), filters)
    moved = rows.move_to(new, progress=progress_bar(command, rows.count()))
    _tell(command, options, moved, f"moved from {lane} to {target}.")
    if not options["json"]:
        _tell_what_stays(command, lane, target, is_new=since is None)
    return None


def _tell(command: BaseCommand, options: Options, count: int, done: str) -> None:
    if options["json"]:
        write_json(command, {"moved": count, "dry_run": options["dry_run"]})
    else:
        command.stdout.write(f"{pluralize(count, 'message')} {done}")


def _tell_what_stays(command: BaseCommand, lane: Lane, target: Lane, *, is_new: bool) -> None:
    if not is_new:
        command.stdout.write(
            f"{target} was registered before, so it has got what was stored since by itself; that "
            f"stays in {lane}, too. Once nobody needs it: python manage.py pgpubsub unsubscribe "
            f"{lane.channel} --subscription {shlex.quote(lane.subscription)}"
        )
    else:
        command.stdout.write(
            "Messages that are in flight, or stored by a transaction that is open, are not moved: "
            "if status shows some later, run it again."
        )


def _known(options: Options, reference: str, name: str) -> Lane:
    """Return a subscription that is registered, declared, or has messages.

    Raises :class:`CommandError` for another one.
    """
    using = options["database"]
    known = {*registered_lanes(connections[using]), *stored_lanes(using), *declared_lanes()}
    (channel,) = resolve_channels([reference], sorted({lane.channel for lane in known}))
    if (lane := Lane(channel, name)) not in known:
        names = ", ".join(repr(one.subscription) for one in sorted(known) if one.channel == channel)
        raise CommandError(f"{channel} has no subscription {name!r}, only {names}.")
    return lane


def _add_unsubscribe(parser: ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL", help="The channel, by its name or path.")
    parser.add_argument(
        "--subscription",
        required=True,
        metavar="NAME",
        help="The subscription; '' for listeners without one.",
    )
    add_noinput(parser)


SUBCOMMANDS = (Subcommand(unsubscribe, _add_unsubscribe, Role.REGISTRAR),)
