"""``manage.py pgpubsub replay | retry | discard | move``: what is done to stored messages."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial

from django.core.management.base import BaseCommand, CommandError

from pgpubsub_sql.channels import find_channel
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.management.asking import ask, demand_choice, with_consent
from pgpubsub_sql.management.choosing import (
    CHOICES,
    chosen,
    stored,
    with_choice,
    with_properties,
)
from pgpubsub_sql.management.subcommands import Options, Subcommand, counted, show_json
from pgpubsub_sql.models import NotificationQuerySet, Progress
from pgpubsub_sql.sql.privileges import Role

_HINT = "Name channels, or choose by --id, --older-than or --error."


def replay(command: BaseCommand, options: Options) -> None:
    """Have parked messages handled again, with all their attempts before them.

    Messages that are chosen by --id need not be parked.
    """
    rows = _asked_for(options, stored(options).parked())
    question = "Have {} handled again?" if options["all"] else ""
    _change(command, options, rows, rows.replay, done="replayed", question=question)


def retry(command: BaseCommand, options: Options) -> None:
    """Try failed messages again now, rather than when their next attempt is due.

    Attempts go on being counted. What is parked is for replay.
    """
    rows = _asked_for(options, stored(options).retrying()).retrying()
    question = "Try {} again now?" if options["all"] else ""
    _change(command, options, rows, rows.retry, done="retried", question=question)


def discard(command: BaseCommand, options: Options) -> None:
    """Delete parked messages without handling them. There is no way back.

    Messages that are chosen by --id need not be parked.
    """
    rows = _asked_for(options, stored(options).parked())
    question = "Delete {} for good?"
    _change(command, options, rows, rows.discard, done="discarded", question=question)


def move(command: BaseCommand, options: Options) -> None:
    """Make the stored messages of one channel those of another, as after renaming it.

    OLD is the channel's name in PostgreSQL, as status shows it; it need not be declared any more.
    """
    try:
        channel = find_channel(options["new"])
    except ChannelNotFound as error:
        raise CommandError(str(error)) from error
    rows = chosen(stored(options).filter(channel=options["old"]), options)
    question = f"Move {{}} from {options['old']} to {channel.postgres_name()}?"
    _change(command, options, rows, partial(rows.move, channel), done="moved", question=question)


def with_change(parser: ArgumentParser) -> None:
    """Let messages be chosen, counted and changed."""
    with_choice(parser)
    _with_dry_run(parser)
    with_consent(parser)


def with_two_channels(parser: ArgumentParser) -> None:
    """Let messages be chosen of one channel, and moved to another."""
    parser.add_argument("old", metavar="OLD", help="Where they are.")
    parser.add_argument("new", metavar="NEW", help="Where they shall be: a declared channel.")
    with_properties(parser)
    _with_dry_run(parser)
    with_consent(parser, everything=False)


SUBCOMMANDS = (
    Subcommand(replay, with_change, Role.KEEPER),
    Subcommand(retry, with_change, Role.KEEPER),
    Subcommand(discard, with_change, Role.KEEPER),
    Subcommand(move, with_two_channels, Role.KEEPER),
)


def _with_dry_run(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="Only count them.")


def _asked_for(options: Options, rows: NotificationQuerySet) -> NotificationQuerySet:
    """Return those of *rows* that were asked for. An id finds its message in whatever state."""
    demand_choice(options, *CHOICES, hint=_HINT)
    return chosen(stored(options) if options["id"] else rows, options)


def _change(
    command: BaseCommand,
    options: Options,
    rows: NotificationQuerySet,
    change: Callable[..., int],
    *,
    done: str,
    question: str,
) -> None:
    """Change *rows*, or only count them, and say how many."""
    count = changed = rows.count()
    if count and not options["dry_run"]:
        if question:
            ask(command, options, question.format(counted(count, "message")))
        changed = change(progress=_progress(command, count))
    if options["json"]:
        show_json(command, {done: changed, "dry_run": options["dry_run"]})
        return
    would = "would be" if options["dry_run"] else "was" if changed == 1 else "were"
    command.stdout.write(f"{counted(changed, 'message')} {would} {done}.")
    if changed < count:
        left = counted(count - changed, "message")
        command.stdout.write(f"{left} left alone: taken by a worker meanwhile.")


def _progress(command: BaseCommand, total: int) -> Progress | None:
    """Return what draws a progress bar, where somebody looks."""
    if not command.stderr.isatty():
        return None

    def draw(done: int) -> None:
        bar = "#" * round(30 * done / max(done, total))
        end = "\n" if done >= total else ""
        line = f"\r[{bar:<30}] {done}/{max(done, total)}"
        command.stderr.write(line, style_func=str, ending=end)  # not in red: it is no error
        command.stderr.flush()

    return draw
