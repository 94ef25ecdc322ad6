"""``manage.py pgpubsub adopt``: the stored messages of django-pgpubsub."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand
from django.db import connections

from pgpubsub_sql.management.base import Options, Row, Subcommand
from pgpubsub_sql.management.output import pluralize, progress_bar, write_json, write_rows
from pgpubsub_sql.management.prompts import add_noinput, confirm
from pgpubsub_sql.migrations_ops import adoption
from pgpubsub_sql.migrations_ops.adoption import Share, Unheard
from pgpubsub_sql.migrations_ops.predecessor_removal import drop
from pgpubsub_sql.sql.predecessor import TABLE
from pgpubsub_sql.sql.privileges import Role


def adopt(command: BaseCommand, options: Options) -> None:
    """Move the stored messages of django-pgpubsub to the channels that they are for now.

    They keep their order and the times at which they were sent. Workers and writers may run
    meanwhile, of both packages. If it is interrupted, run it again: it goes on.

    Messages that notify() of django-pgpubsub stored for a durable channel were never handled,
    because its workers look for another name. They are parked, unless --unheard says otherwise.

    --drop is the last step of the move: it drops the table, functions, content types and records
    of migrations of django-pgpubsub, and refuses while something needs them. --back undoes the
    move: all stored messages go back to django-pgpubsub's table.

      manage.py pgpubsub adopt --dry-run
      manage.py pgpubsub adopt
      manage.py pgpubsub adopt --drop
    """
    if options["drop"]:
        _drop(command, options)
    elif options["back"]:
        _give_back(command, options)
    else:
        _adopt(command, options)


def _add_arguments(parser: ArgumentParser) -> None:
    step = parser.add_mutually_exclusive_group()
    step.add_argument("--dry-run", action="store_true", help="Count them, but change nothing.")
    step.add_argument("--drop", action="store_true", help="Drop what django-pgpubsub has left.")
    step.add_argument("--back", action="store_true", help="Give all stored messages back to it.")
    parser.add_argument(
        "--unheard",
        type=Unheard,
        choices=list(Unheard),
        default=Unheard.PARK,
        metavar="WHAT",
        help="What becomes of messages that were never handled: park (the default), deliver or "
        "discard.",
    )
    add_noinput(parser)


SUBCOMMANDS = (Subcommand(adopt, _add_arguments, Role.KEEPER),)


def _adopt(command: BaseCommand, options: Options) -> None:
    connection, unheard = connections[options["database"]], options["unheard"]
    rows = []
    for share in adoption.shares(connection):
        moved = 0
        if not options["dry_run"]:
            moved = adoption.adopt(
                connection, share, unheard, progress_bar(command, share.stored.number)
            )
        rows.append(_described(share, unheard, moved))
    empty = f"There is nothing to adopt: {TABLE} is empty, or does not exist."
    shown = ("old", "channel", "messages", "what", "oldest")
    write_rows(
        command,
        rows if options["json"] else [{name: row[name] for name in shown} for row in rows],
        as_json=options["json"],
        empty=empty,
    )
    if not options["json"]:
        _explain(command, options, rows)


def _described(share: Share, unheard: Unheard, moved: int) -> Row:
    what = "adopt"
    if share.channel is None:
        what = "stay"
    elif share.is_unheard:
        what = str(unheard)
    return {
        "old": share.stored.name,
        "channel": share.channel.postgres_name() if share.channel else None,
        "messages": share.stored.number,
        "moved": moved,
        "what": what,
        "oldest": share.stored.oldest,
    }


def _explain(command: BaseCommand, options: Options, rows: list[Row]) -> None:
    if any(row["channel"] is None for row in rows):
        command.stdout.write(
            "Messages that belong to no durable channel stay where they are. If their channel was "
            'renamed, set its channel_name to the old name, as in channel_name = "pgpubsub_d5f69", '
            f"and run adopt again. If it is gone, delete them from {TABLE} with SQL."
        )
    if any(row["what"] == Unheard.PARK for row in rows):
        command.stdout.write(
            "No worker of django-pgpubsub could handle what its notify() stored, so these messages "
            "may be very old. They are parked: look at them with pgpubsub parked, then replay or "
            "discard them."
        )
    left = sum(row["messages"] - row["moved"] for row in rows if row["channel"])
    if left > 0 and not options["dry_run"]:
        command.stdout.write(
            f"{pluralize(left, 'message')} skipped: they are in flight in django-pgpubsub. "
            "Run adopt again once it is done."
        )


def _give_back(command: BaseCommand, options: Options) -> None:
    connection = connections[options["database"]]
    found = adoption.channels_with_messages(connection)
    total = sum(count for _, count in found)
    if total:
        confirm(command, options, f"Give {pluralize(total, 'message')} back to django-pgpubsub?")
    rows = []
    for channel, count in found:
        moved = adoption.give_back(connection, channel, progress_bar(command, count))
        name = channel.postgres_name()
        rows.append({"channel": name, "old": adoption.old_name_of(channel), "moved": moved})
    write_rows(command, rows, as_json=options["json"], empty="There is nothing to give back.")
    if rows and not options["json"]:
        command.stdout.write(
            "Start the workers of django-pgpubsub with: python manage.py listen --recover"
        )


def _drop(command: BaseCommand, options: Options) -> None:
    connection = connections[options["database"]]
    question = "Drop the table, the functions and the records of django-pgpubsub for good?"
    confirm(command, options, question)
    dropped = drop(connection)
    if options["json"]:
        write_json(command, {"dropped": dropped})
    else:
        lines = [f"Dropped {one}." for one in dropped]
        command.stdout.write("\n".join(lines) or "There is nothing to drop.")
