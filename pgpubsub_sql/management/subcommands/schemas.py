"""``manage.py pgpubsub schema``: what the messages of channels look like, for other languages."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from pgpubsub_sql.channels import Channel, codec, declared_channels
from pgpubsub_sql.management.base import Options, Subcommand
from pgpubsub_sql.management.output import write_json
from pgpubsub_sql.management.selection import add_channels, resolve_channels
from pgpubsub_sql.payloads import schema_of_channels, typescript


def schema(command: BaseCommand, options: Options) -> None:
    """Print the JSON Schema of messages, or TypeScript types, for those who send from elsewhere.

    The schema (draft 2020-12) has one property for each channel that notify() and SQL send on. On
    trigger channels only the database sends. No database is needed.

      manage.py pgpubsub schema > channels.schema.json
      manage.py pgpubsub schema --typescript > channels.ts
    """
    declared = {channel.postgres_name(): channel for channel in declared_channels()}
    names = resolve_channels(options["channels"], declared)
    found = {
        name: codec(channel).struct
        for name, channel in sorted(declared.items())
        if issubclass(channel, Channel) and (name in names or not names)
    }
    if refused := [name for name in names if name not in found]:
        raise CommandError(f"On the trigger channel {refused[0]} only the database sends.")
    if not found:
        raise CommandError("No channel is declared on which notify() or SQL sends.")
    described = schema_of_channels(found)
    if options["typescript"]:
        command.stdout.write(typescript(described))
    else:
        write_json(command, described)


def _add_options(parser: ArgumentParser) -> None:
    add_channels(parser)
    parser.add_argument("--typescript", action="store_true", help="Print TypeScript types instead.")


SUBCOMMANDS = (Subcommand(schema, _add_options, needs_database=False),)
