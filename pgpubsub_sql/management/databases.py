"""The database that a command is about."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

from pgpubsub_sql.errors import PubSubError


def add_database(parser: ArgumentParser, help_: str) -> None:
    """Let one of the databases in the settings be named."""
    parser.add_argument(
        "--database",
        default=DEFAULT_DB_ALIAS,
        choices=tuple(connections),
        metavar="ALIAS",
        help=help_,
    )


@contextmanager
def reached(alias: str) -> Iterator[None]:
    """Say in one line what is wrong with a database, rather than with a traceback."""
    try:
        yield
    except PubSubError as error:
        raise CommandError(str(error)) from error
    except OperationalError as error:
        raise CommandError(
            f"The database {alias!r} cannot be reached: {str(error).strip()}\n"
            f"Is its server running, and is what DATABASES says of it right?"
        ) from error
