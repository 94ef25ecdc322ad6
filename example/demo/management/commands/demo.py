"""``manage.py demo``: arguments in, a call, output out."""

import sys
import time
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from example.demo import story
from example.demo.interruption import Interruption, InterruptionError
from example.demo.listening import ListeningError
from example.demo.packages import read_packages, summarise
from example.demo.report import Report
from pgpubsub_sql.errors import ServerError

DESCRIPTION = """\
Send messages in every way there is, kill a worker midway, and count what arrives.

Starts a PostgreSQL of its own and "manage.py listen" with two workers. What it writes is
real: the people, texts and tags of the Python packages installed here. Exits with 0 only
if no message was lost, none was handled twice, and none came of what was rolled back.
Leaves neither a process nor a file.
"""
INTERRUPTED = 130


def positive(value: str) -> int:
    """Return *value* as a number of at least one."""
    number = int(value)
    if number < 1:
        raise ValueError(value)
    return number


class Command(BaseCommand):
    """Run the demo."""

    help = DESCRIPTION

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Keep the lines of the description as they are."""
        kwargs["formatter_class"] = RawDescriptionHelpFormatter
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what may be asked for."""
        parser.add_argument(
            "--packages", type=positive, metavar="N", help="Read N packages (default: all)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, and exit with a status that tells."""
        with Interruption() as interruption:
            try:
                status = self._run(options["packages"], interruption)
            except (InterruptionError, ListeningError, ServerError, TimeoutError) as error:
                # Ctrl-C also ends a process that has not left our group yet, and that shows first.
                if not interruption.noted:
                    raise CommandError(str(error)) from error
                self.stderr.write("Interrupted: everything is stopped and removed.")
                status = INTERRUPTED
        sys.exit(status)

    def _run(self, limit: int | None, interruption: Interruption) -> int:
        report, started = Report(sys.stdout), time.monotonic()
        packages = read_packages(limit)
        report.setting("input", summarise(packages))
        account = story.run(packages, report, interruption)
        report.say()
        report.account(account)
        verdict = "Every message was handled as promised" if account.is_good else "NOT AS PROMISED"
        report.say(f"  {verdict}, in {time.monotonic() - started:.0f} seconds.")
        return 0 if account.is_good else 1
