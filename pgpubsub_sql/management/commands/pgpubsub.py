"""``manage.py pgpubsub``: inspect and repair what is installed and what is stored."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import CommandParser
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.management.base import (
    DatabaseCommand,
    Subcommand,
    add_database,
    readable_errors,
)
from pgpubsub_sql.management.subcommands import SUBCOMMANDS
from pgpubsub_sql.sql.readiness import check_postgresql, check_ready, check_role

DESCRIPTION = """\
Inspect and repair the triggers of channels, and their stored messages.

  manage.py pgpubsub ls                       list channels and the state of their triggers
  manage.py pgpubsub verify                   exit with 1 if code, migrations and database differ
  manage.py pgpubsub sql blog.AuthorChannel   print the SQL that installs a channel's triggers
  manage.py pgpubsub status                   count messages by state; are workers listening?
  manage.py pgpubsub failed                   list what failed, why, and when it is tried again
  manage.py pgpubsub show 7                   show everything about one message
  manage.py pgpubsub replay blog.PostReads    handle parked messages again
  manage.py pgpubsub pause blog.PostReads     have workers leave a channel alone for a while
  manage.py pgpubsub send blog.PostReads …    send a message by hand
  manage.py pgpubsub tail                     show what is sent while it is sent
  manage.py pgpubsub schema                   write the JSON Schema of channels
  manage.py pgpubsub COMMAND --help           explain one of them, with examples
"""


class Command(DatabaseCommand):
    """Run a subcommand."""

    help = DESCRIPTION

    def add_arguments(self, parser: CommandParser) -> None:
        """Add a parser for each subcommand."""
        words = parser.add_subparsers(dest="word", metavar="COMMAND", required=True)
        for subcommand in SUBCOMMANDS:
            child = words.add_parser(
                subcommand.name,
                help=subcommand.help.partition("\n")[0],
                description=subcommand.help,
                formatter_class=RawDescriptionHelpFormatter,
            )
            subcommand.add_arguments(child)
            if subcommand.needs_database:
                add_database(child, "Alias of the database to use (default: default).")
                child.add_argument("--json", action="store_true", help="Print JSON, for programs.")
            _hide_common(child)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand, once the database is ready for it."""
        by_name = {subcommand.name: subcommand for subcommand in SUBCOMMANDS}
        subcommand = by_name[options["word"]]
        with readable_errors(options.get("database", DEFAULT_DB_ALIAS)):
            if subcommand.needs_database:
                _check_database(connections[options["database"]], subcommand)
            subcommand.run(self, options)


def _check_database(connection: BaseDatabaseWrapper, subcommand: Subcommand) -> None:
    if subcommand.needs_tables:
        check_ready(connection)
    else:
        check_postgresql(connection)
    check_role(connection, subcommand.role)


def _hide_common(parser: ArgumentParser) -> None:
    """Add Django's own options, which belong to the command: people write them after the word."""
    for option in ("--settings", "--pythonpath"):
        parser.add_argument(option, help=SUPPRESS, default=SUPPRESS)
    for option in ("--traceback", "--no-color", "--force-color"):
        parser.add_argument(option, action="store_true", help=SUPPRESS, default=SUPPRESS)
