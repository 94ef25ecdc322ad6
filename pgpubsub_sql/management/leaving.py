"""``manage.py pgpubsub leave``."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from pgpubsub_sql.management.asking import ask, with_consent
from pgpubsub_sql.management.subcommands import Options, Subcommand, counted, write
from pgpubsub_sql.migrations_ops import editing
from pgpubsub_sql.migrations_ops.leaving import check_unused, dependents

_NEXT = """\
Run on every database: python manage.py migrate pgpubsub_sql zero
Then take "pgpubsub_sql" out of INSTALLED_APPS."""


def leave(command: BaseCommand, options: Options) -> None:
    """Take this package out of the project's migrations, once nothing uses it any more.

    Their files are changed: our operations, the dependencies on our migrations and the imports
    go, and the migrations stay. After that Django can unapply ours without theirs.
    """
    check_unused(connections[options["database"]])
    paths = [*dependents()]
    if paths:
        for path in paths if options["interactive"] else ():
            command.stderr.write(_shown(path))
        ask(command, options, f"Change {counted(len(paths), 'migration')}?")
    for path in paths:
        path.write_bytes(editing.without_us(path.read_bytes()))
    rows = [{"migration": _shown(path), "done": "changed"} for path in paths]
    write(command, rows, as_json=options["json"], empty="No migration needs this package.")
    if left := [f"{_shown(path)}:{line}" for path in paths for line in _lines(path)]:
        raise CommandError(
            f"What is written otherwise than makemigrations does is yours to change: take "
            f"pgpubsub_sql out of {', '.join(left)}"
        )
    if not options["json"]:
        command.stdout.write(_NEXT)


SUBCOMMANDS = (Subcommand(leave, lambda parser: with_consent(parser, everything=False)),)


def _lines(path: Path) -> list[int]:
    return editing.mentions(path.read_bytes())


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
