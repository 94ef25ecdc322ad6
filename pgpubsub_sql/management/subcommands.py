"""What the subcommands of ``manage.py pgpubsub`` share."""

from __future__ import annotations

import datetime
import difflib
import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder

from pgpubsub_sql.channels import find_channel
from pgpubsub_sql.errors import ChannelNotFound

Options = dict[str, Any]
"""What was asked for, as argparse has it."""


class Subcommand(NamedTuple):
    """One word after ``manage.py pgpubsub``."""

    run: Callable[[BaseCommand, Options], None]
    """Does it; its name is the word, its docstring the help."""
    arguments: Callable[[ArgumentParser], None] = lambda parser: None
    """Adds arguments of its own."""

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
        help="A channel by its name in PostgreSQL (blog.AuthorChannel) or its module path; "
        "all of them if none is named.",
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
        raise CommandError(f"There is nothing to do with channel {name!r} here.")
    return name


def write(
    command: BaseCommand, rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str
) -> None:
    """Write *rows* as JSON, or as a table for people; *empty* where there are none."""
    if as_json:
        show(command, rows)
    elif rows:
        command.stdout.write(_table(rows))
    else:
        command.stdout.write(empty)


def show(command: BaseCommand, value: Any) -> None:
    """Write *value* as JSON."""
    command.stdout.write(json.dumps(value, indent=2, cls=DjangoJSONEncoder, ensure_ascii=False))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = list(rows[0])
    cells = [head, *([_cell(row[name]) for name in head] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return " ".join(str("" if value is None else value).split())
