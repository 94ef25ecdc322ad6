"""The database that a command is about."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, OperationalError, ProgrammingError, connections

from pgpubsub_sql.errors import PubSubError
from pgpubsub_sql.sql import sqlstate
from pgpubsub_sql.sql.readiness import unreachable

_REFUSED = {
    "42501": "Connect as the role that runs migrate: it owns our tables and functions.",
    "42P07": "Rename the object that has this name: it is not one of ours.",
}
"""Remedies for what PostgreSQL refuses, by SQLSTATE: insufficient_privilege, duplicate_table."""


class DatabaseCommand(BaseCommand):
    """A command about one database, whose description keeps its lines."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs["formatter_class"] = RawDescriptionHelpFormatter
        return super().create_parser(prog_name, subcommand, **kwargs)

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        """Let checks ask no server: since Django 6.1 they ask those of all aliases otherwise."""
        return {**super().get_check_kwargs(options), "databases": ()}


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
        if connections[alias].connection is not None and connections[alias].is_usable():
            raise  # what is wrong is not the connection
        raise CommandError(str(unreachable(alias, error))) from error
    except ProgrammingError as error:
        if remedy := _REFUSED.get(sqlstate(error)):
            refusal = str(error).partition("\n")[0]
            raise CommandError(f"PostgreSQL refused: {refusal}. {remedy}") from error
        raise
