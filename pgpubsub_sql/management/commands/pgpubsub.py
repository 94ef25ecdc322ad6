"""``manage.py pgpubsub``: see and repair what is installed, and what is stored."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from inspect import cleandoc
from typing import Any

from django.core.management.base import CommandParser
from django.db import connections

from pgpubsub_sql.management import installing, leaving, seeing, status, stored
from pgpubsub_sql.management.databases import DatabaseCommand, add_database, reached
from pgpubsub_sql.management.subcommands import Subcommand
from pgpubsub_sql.sql.readiness import check_postgresql, check_ready, check_role

SUBCOMMANDS: tuple[Subcommand, ...] = (
    *installing.SUBCOMMANDS,
    *status.SUBCOMMANDS,
    *seeing.SUBCOMMANDS,
    *stored.SUBCOMMANDS,
    *leaving.SUBCOMMANDS,
)

DESCRIPTION = """\
See and repair what is installed of channels, and what is stored of their messages.

  manage.py pgpubsub ls                       every channel, and the state of its triggers
  manage.py pgpubsub verify                   exit 1 where code, migrations and database differ
  manage.py pgpubsub sql blog.AuthorChannel   the SQL that installs it
  manage.py pgpubsub status                   how many messages are in which state, and who works
  manage.py pgpubsub failed                   what failed, why, and when it is tried again
  manage.py pgpubsub show 7                   all that is known of one message
  manage.py pgpubsub replay blog.PostReads    have what is parked handled again
  manage.py pgpubsub COMMAND --help           more on one of them
"""


class Command(DatabaseCommand):
    """Hand over to the subcommand."""

    help = DESCRIPTION

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what may be asked for."""
        words = parser.add_subparsers(dest="word", metavar="COMMAND", required=True)
        for subcommand in SUBCOMMANDS:
            text = cleandoc(subcommand.run.__doc__ or "")
            child = words.add_parser(
                subcommand.name,
                help=text.partition("\n")[0],
                description=text,
                formatter_class=RawDescriptionHelpFormatter,
            )
            subcommand.arguments(child)
            _add_common(child)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        by_name = {subcommand.name: subcommand for subcommand in SUBCOMMANDS}
        with reached(options["database"]):
            subcommand = by_name[options["word"]]
            connection = connections[options["database"]]
            if subcommand in installing.SUBCOMMANDS:  # which mend our tables, too
                check_postgresql(connection)
            else:
                check_ready(connection)
            check_role(connection, subcommand.role)
            subcommand.run(self, options)


def _add_common(parser: ArgumentParser) -> None:
    add_database(parser, "Database to look at.")
    parser.add_argument("--json", action="store_true", help="Write JSON, for programs.")
    # Django's own options are those of the command; people write them at the end.
    for option in ("--settings", "--pythonpath"):
        parser.add_argument(option, help=SUPPRESS, default=SUPPRESS)
    for option in ("--traceback", "--no-color", "--force-color"):
        parser.add_argument(option, action="store_true", help=SUPPRESS, default=SUPPRESS)
