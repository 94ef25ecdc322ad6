"""What has to be said, and asked, before much is changed at once."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from pgpubsub_sql.management.subcommands import Options


def with_consent(parser: ArgumentParser, *, everything: bool = True) -> None:
    """Let everything be chosen where that makes sense, and the question be left out."""
    if everything:
        parser.add_argument("--all", action="store_true", help="All of them.")
    parser.add_argument(
        "--noinput",
        "--no-input",
        action="store_false",
        dest="interactive",
        help="Do not ask: for scripts.",
    )


def demand_choice(options: Options, *choices: str, hint: str) -> None:
    """Refuse to act on everything unless that was said, and to guess which of both was meant."""
    is_chosen = any(options[name] for name in choices)
    if options["all"] and is_chosen:
        raise CommandError(
            "--all means every one: leave out either --all, or what narrows the choice."
        )
    if not (options["all"] or is_chosen):
        raise CommandError(f"Say which ones. {hint} --all means every one.")


def ask(command: BaseCommand, options: Options, question: str) -> None:
    """Have *question* answered by yes, or raise :class:`CommandError`."""
    if not options["interactive"]:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            f"{question} The answer is read from a terminal only. To go on without one, add "
            "--noinput."
        )
    command.stderr.write(f"{question} [y/N] ", style_func=str, ending="")
    command.stderr.flush()
    if input().strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")
