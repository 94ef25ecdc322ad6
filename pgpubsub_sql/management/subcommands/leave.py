"""``manage.py pgpubsub leave``: the project's migrations no longer need this package."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from pgpubsub_sql.management.base import Options, Subcommand
from pgpubsub_sql.management.output import pluralize, write_rows
from pgpubsub_sql.management.prompts import add_noinput, confirm
from pgpubsub_sql.migrations_ops.package_removal import (
    check_unused,
    dependent_migrations,
    mentioning_lines,
    without_package,
)

_NEXT = """\
Run on every database: python manage.py migrate pgpubsub_sql zero
Then remove "pgpubsub_sql" from INSTALLED_APPS."""


def leave(command: BaseCommand, options: Options) -> None:
    """Remove this package from the project's migrations, once no channel uses it.

    Use it before you uninstall the package. The migrations stay, but their files are edited: the
    operations, imports and dependencies of pgpubsub_sql are removed, so Django can then unapply
    its migrations without yours.

      manage.py pgpubsub leave
    """
    check_unused(connections[options["database"]])
    paths = [*dependent_migrations()]
    if paths:
        for path in paths if options["interactive"] else ():
            command.stderr.write(_shown(path))
        confirm(command, options, f"Change {pluralize(len(paths), 'migration')}?")
    for path in paths:
        path.write_bytes(without_package(path.read_bytes()))
    rows = [{"migration": _shown(path), "done": "changed"} for path in paths]
    write_rows(command, rows, as_json=options["json"], empty="No migration needs this package.")
    if left := [f"{_shown(path)}:{line}" for path in paths for line in _lines(path)]:
        raise CommandError(
            "These lines are not as makemigrations writes them, so remove pgpubsub_sql from them "
            f"by hand: {', '.join(left)}"
        )
    if not options["json"]:
        command.stdout.write(_NEXT)


SUBCOMMANDS = (Subcommand(leave, add_noinput),)


def _lines(path: Path) -> list[int]:
    return mentioning_lines(path.read_bytes())


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
