"""What the subcommands of ``manage.py pgpubsub`` share."""

from __future__ import annotations

import difflib
import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections

from pgpubsub_sql.channels import find_channel
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.management.tables import table, width_of
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.privileges import Role

Options = dict[str, Any]
"""What was asked for, as argparse has it."""

Row = dict[str, Any]


class Subcommand(NamedTuple):
    """One word after ``manage.py pgpubsub``."""

    run: Callable[[BaseCommand, Options], None]
    """Does it; its name is the word, its docstring the help."""
    arguments: Callable[[ArgumentParser], None] = lambda parser: None
    """Adds arguments of its own."""
    role: Role = Role.VERIFIER
    """Who may run it."""

    @property
    def name(self) -> str:
        """The word."""
        return self.run.__name__


def with_channels(parser: ArgumentParser) -> None:
    """Let channels be named."""
    parser.add_argument(
        "channels",
        nargs="*",
        metavar="CHANNEL",
        help="A channel by its name in PostgreSQL (blog.AuthorChannel) or its module path.",
    )


def resolve(references: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the names in PostgreSQL of channels, each of which must be in *known*.

    Raises :class:`CommandError`, with a suggestion where one comes close.
    """
    names = list(known)
    return [_resolve(reference, names) for reference in references]


def _resolve(reference: str, known: Sequence[str]) -> str:
    name = reference
    if reference not in known:
        try:
            name = find_channel(reference).postgres_name()
        except ChannelNotFound as error:
            close = difflib.get_close_matches(reference, known, n=1)
            raise CommandError(
                f"No channel is called {reference!r}. Did you mean {close[0]!r}?"
                if close
                else str(error)
            ) from None
    if name not in known:
        raise CommandError(
            f"Channel {name!r} is declared, but has nothing here that this command is about: no "
            "trigger, or no stored message and no listener."
        )
    return name


def write(
    command: BaseCommand, rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str
) -> None:
    """Write *rows* as JSON, or as a table for people; *empty* where there are none."""
    if as_json:
        show_json(command, rows)
    elif rows:
        command.stdout.write(table(rows, width_of(command)))
    else:
        command.stdout.write(empty)


def show_json(command: BaseCommand, value: Any) -> None:
    """Write *value* as JSON."""
    command.stdout.write(json.dumps(value, indent=2, cls=DjangoJSONEncoder, ensure_ascii=False))


def counted(number: int, noun: str) -> str:
    """Return *number* with its noun, such as ``2 messages``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def run(options: Options, name: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """Return the rows of the query *name*, on the database that was asked for."""
    with connections[options["database"]].cursor() as cursor:
        cursor.execute(query(name), values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
