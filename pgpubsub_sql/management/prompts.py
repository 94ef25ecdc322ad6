"""The question that a command asks before it takes something away, and ``--all``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from pgpubsub_sql.management.base import Options


def add_noinput(parser: ArgumentParser) -> None:
    """Add ``--noinput``, which leaves out the question."""
    parser.add_argument(
        "--noinput",
        "--no-input",
        action="store_false",
        dest="interactive",
        help="Do not ask for confirmation: for scripts.",
    )


def add_all(parser: ArgumentParser) -> None:
    """Add ``--all``, for commands that act on everything only if told to."""
    parser.add_argument("--all", action="store_true", help="Select everything.")


def require_selection(options: Options, *filters: str, hint: str) -> None:
    """Raise :class:`CommandError` unless either ``--all`` or one of *filters* was given."""
    is_narrowed = any(options[name] not in (None, []) for name in filters)
    if options["all"] and is_narrowed:
        raise CommandError(
            "--all selects everything: leave out either --all or what narrows the selection."
        )
    if not (options["all"] or is_narrowed):
        raise CommandError(f"Nothing is selected. {hint} --all selects everything.")


def confirm(command: BaseCommand, options: Options, question: str) -> None:
    """Ask *question*, and raise :class:`CommandError` unless the answer is yes."""
    if not options["interactive"]:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            f"{question} The answer can only be given at a terminal. To go on without asking, add "
            "--noinput."
        )
    command.stderr.write(f"{question} [y/N] ", style_func=str, ending="")
    command.stderr.flush()
    if input().strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")
