"""``manage.py pgpubsub replay | retry | discard | move``: stored messages are changed."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from pgpubsub_sql.channels import declared_channels, find_channel
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.keeping import is_kept
from pgpubsub_sql.management.base import Options, Subcommand
from pgpubsub_sql.management.output import pluralize, progress_bar, write_json
from pgpubsub_sql.management.prompts import add_all, add_noinput, confirm, require_selection
from pgpubsub_sql.management.selection import (
    FILTERS,
    add_channels,
    add_filters,
    add_subscription,
    select,
    stored_messages,
)
from pgpubsub_sql.management.subcommands.history import (
    add_replaying,
    replay_handled,
    require_handled,
)
from pgpubsub_sql.management.subcommands.subscriptions import rename_subscription
from pgpubsub_sql.models import NotificationQuerySet
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import check_role

_HINT = "Name channels, or select by --id, --older-than or --error."


def replay(command: BaseCommand, options: Options) -> None:
    """Handle parked messages again, counting their attempts from zero.

    Use it once the cause of their failure is removed. Messages named by --id need not be parked.

      manage.py pgpubsub replay blog.AuthorChannel --dry-run
      manage.py pgpubsub replay --error timeout
      manage.py pgpubsub replay --id 7 8

    With --handled, it sends messages again that were handled, of a channel that keeps them (keep):
    each once, in order, as new messages. An interrupted one says how to go on.

      manage.py pgpubsub replay --handled blog.Orders --since 2d --subscription search

    With --same-ids besides, the relay publishes them again under the ids that they had: after a
    stream was lost, receivers store what they lack, and drop what they have.

      manage.py pgpubsub replay --handled blog.Orders --since 2d --same-ids
    """
    if options["handled"]:
        replay_handled(command, options)
        return
    require_handled(options)
    rows = _selected(options, stored_messages(options).parked())
    question = "Handle {} again?" if options["all"] else ""
    _change(command, options, rows, rows.replay, done="replayed", question=question)


def retry(command: BaseCommand, options: Options) -> None:
    """Try failed messages again now, instead of waiting for their next attempt.

    Use it once the cause of their failure is removed. This attempt counts like any other. For
    parked messages, use replay.

      manage.py pgpubsub retry blog.AuthorChannel
    """
    rows = _selected(options, stored_messages(options).retrying()).retrying()
    question = "Try {} again now?" if options["all"] else ""
    _change(command, options, rows, rows.retry, done="retried", question=question)


def discard(command: BaseCommand, options: Options) -> None:
    """Delete parked messages without handling them. This cannot be undone.

    Messages named by --id need not be parked.

      manage.py pgpubsub discard blog.AuthorChannel --older-than 30d
    """
    rows = _selected(options, stored_messages(options).parked())
    kept = [one.postgres_name() for one in declared_channels() if is_kept(one)]
    if rows.filter(channel__in=kept).exists():
        check_role(connections[options["database"]], Role.DISCARDER)
    question = "Delete {} for good?"
    _change(command, options, rows, rows.discard, done="discarded", question=question)


def move(command: BaseCommand, options: Options) -> None:
    """Move stored messages to another channel, or to another subscription of theirs.

    Use it after a channel was renamed: its messages keep the old name, which has no listener. OLD
    is the name in PostgreSQL, as status shows it, and need not be declared any more.

    With --subscription, it renames a subscription: what was stored for the old name, and what will
    be, is for the new one. Use it before migrate has registered the new name.

      manage.py pgpubsub move blog.WriterChannel blog.AuthorChannel
      manage.py pgpubsub move blog.Orders --subscription mail post
    """
    if options["subscription"]:
        rename_subscription(command, options)
        return
    if options["new"] is None:
        raise CommandError("Name the channel to move the messages to, or give --subscription.")
    try:
        channel = find_channel(options["new"])
    except ChannelNotFound as error:
        raise CommandError(str(error)) from error
    rows = select(stored_messages(options).filter(channel=options["old"]), options)
    question = f"Move {{}} from {options['old']} to {channel.postgres_name()}?"
    _change(command, options, rows, partial(rows.move, channel), done="moved", question=question)


def _add_selection(parser: ArgumentParser) -> None:
    add_channels(parser)
    add_subscription(parser)
    add_filters(parser)
    _add_dry_run(parser)
    add_all(parser)
    add_noinput(parser)


def _add_replay(parser: ArgumentParser) -> None:
    _add_selection(parser)
    add_replaying(parser)


def _add_two_channels(parser: ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="The channel that has the messages.")
    parser.add_argument(
        "new", metavar="NEW", nargs="?", help="The channel to move them to; a declared one."
    )
    parser.add_argument(
        "--subscription",
        nargs=2,
        metavar=("OLD", "NEW"),
        help="Move them from one subscription of the channel to another; '' is that of listeners "
        "that name none.",
    )
    add_filters(parser)
    _add_dry_run(parser)
    add_noinput(parser)


def _add_dry_run(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="Count them, but change nothing.")


SUBCOMMANDS = (
    Subcommand(replay, _add_replay, Role.KEEPER),
    Subcommand(retry, _add_selection, Role.KEEPER),
    Subcommand(discard, _add_selection, Role.KEEPER),
    Subcommand(move, _add_two_channels, Role.KEEPER),
)


def _selected(options: Options, rows: NotificationQuerySet) -> NotificationQuerySet:
    """Return those of *rows* that were selected; ``--id`` selects messages in any state."""
    require_selection(options, *FILTERS, hint=_HINT)
    return select(stored_messages(options) if options["id"] else rows, options)


def _change(
    command: BaseCommand,
    options: Options,
    rows: NotificationQuerySet,
    change: Callable[..., int],
    *,
    done: str,
    question: str,
) -> None:
    """Change *rows*, or with ``--dry-run`` count them, and say how many."""
    count = changed = rows.count()
    if count and not options["dry_run"]:
        if question:
            confirm(command, options, question.format(pluralize(count, "message")))
        changed = change(progress=progress_bar(command, count))
    if options["json"]:
        write_json(command, {done: changed, "dry_run": options["dry_run"]})
        return
    would = "would be" if options["dry_run"] else "was" if changed == 1 else "were"
    command.stdout.write(f"{pluralize(changed, 'message')} {would} {done}.")
    if changed < count:
        left = pluralize(count - changed, "message")
        command.stdout.write(f"{left} skipped: taken by a worker in the meantime.")
