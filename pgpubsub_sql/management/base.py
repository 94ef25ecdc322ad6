"""What commands and subcommands are made of: their database, their options, their errors."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import cleandoc
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, OperationalError, ProgrammingError, connections

from pgpubsub_sql.errors import PubSubError
from pgpubsub_sql.sql import sqlstate
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import unreachable

_REFUSED = {
    "42501": "Connect as the role that runs migrate: it owns the tables and functions of "
    "pgpubsub_sql.",
    "42P07": "Rename the object that has this name: it does not belong to pgpubsub_sql.",
}
"""Remedies by SQLSTATE, here insufficient_privilege and duplicate_table."""

Options = dict[str, Any]
"""Options of a command, as argparse returns them."""

Row = dict[str, Any]
"""What is shown of a channel or a message."""


class DatabaseCommand(BaseCommand):
    """A command on one database, whose help keeps its line breaks."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs["formatter_class"] = RawDescriptionHelpFormatter
        return super().create_parser(prog_name, subcommand, **kwargs)

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        """Keep checks from connecting to databases: since Django 6.1 they would, to all aliases."""
        return {**super().get_check_kwargs(options), "databases": ()}


class Subcommand(NamedTuple):
    """A word after ``manage.py pgpubsub``."""

    run: Callable[[BaseCommand, Options], None]
    """Its name is the word, its docstring the help."""
    add_arguments: Callable[[ArgumentParser], None] = lambda parser: None
    role: Role = Role.VERIFIER
    """The privileges that it needs."""
    needs_tables: bool = True
    """Whether the tables of this package must exist. Those about triggers check that themselves."""
    needs_database: bool = True
    """Whether it asks the database at all."""
    legend: str = ""
    """Appended to the help."""

    @property
    def name(self) -> str:
        """The word."""
        return self.run.__name__

    @property
    def help(self) -> str:
        """What ``--help`` shows; the first line is the summary."""
        return f"{cleandoc(self.run.__doc__ or '')}\n{self.legend}".rstrip()


def positive(value: str) -> int:
    """Parse an integer of at least 1."""
    if not value.isdecimal() or int(value) < 1:
        raise ArgumentTypeError(f"{value!r} is not an integer of at least 1.")
    return int(value)


def add_database(parser: ArgumentParser, help_: str) -> None:
    """Add ``--database``."""
    parser.add_argument(
        "--database",
        default=DEFAULT_DB_ALIAS,
        choices=tuple(connections),
        metavar="ALIAS",
        help=help_,
    )


@contextmanager
def readable_errors(alias: str) -> Iterator[None]:
    """Turn errors with a known remedy into one line instead of a traceback."""
    try:
        yield
    except PubSubError as error:
        raise CommandError(str(error)) from error
    except OperationalError as error:
        if connections[alias].connection is not None and connections[alias].is_usable():
            raise  # the connection is not what is wrong
        raise CommandError(str(unreachable(alias, error))) from error
    except ProgrammingError as error:
        if remedy := _REFUSED.get(sqlstate(error)):
            refusal = str(error).partition("\n")[0]
            raise CommandError(f"PostgreSQL refused: {refusal}. {remedy}") from error
        raise


def fetch(options: Options, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """Return the rows of a query, executed on the database of *options*."""
    with connections[options["database"]].cursor() as cursor:
        cursor.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
