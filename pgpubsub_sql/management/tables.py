"""Rows as people read them, at most as wide as their terminal."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from django.core.management.base import BaseCommand

WIDTH = 80
"""Columns of what is no terminal: a file, a pipe."""
_GAP = "  "
_LEAST = 16
"""Columns that the last one of a table needs at least, or is as wide as its cells."""


def width_of(command: BaseCommand) -> int:
    """Return the columns that the output of *command* has."""
    return shutil.get_terminal_size().columns if command.stdout.isatty() else WIDTH


def table(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """Return *rows* as a table; as blocks, one a row, if they are too wide for one.

    The last column takes what the others leave, and is cut there. Where they leave too little, the
    widest of them is broken into lines. Lists have an item a line.
    """
    head = list(rows[0])
    cells = [[[name] for name in head], *([_lines(row[name]) for name in head] for row in rows)]
    widths = [max(len(line) for row in cells for line in row[i]) for i in range(len(head))]
    widest = widths.index(max(widths[:-1]))
    left = width - sum(widths[:-1]) - len(_GAP) * (len(head) - 1)
    missing = max(0, min(_LEAST, widths[-1]) - left)
    if missing and widths[widest] - missing < _LEAST:
        return blocks(rows)
    widths[widest] -= missing
    widths[-1] = min(widths[-1], left + missing)
    rule = [["-" * column] for column in widths]
    return "\n".join(_row(row, widths) for row in [cells[0], rule, *cells[1:]])


def blocks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a block of lines for each of *rows*, a value a line; none is cut."""
    return "\n\n".join(_block(row) for row in rows)


def cut(text: str, width: int) -> str:
    """Return as much of *text* as *width* columns hold."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def one_line(text: str) -> str:
    """Return *text* on one line, with single spaces."""
    return " ".join(harmless(text).split())


def harmless(text: str) -> str:
    """Return *text* without line breaks and whatever else moves the cursor of a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    columns = [
        *(_broken(lines, width) for lines, width in zip(cells[:-1], widths, strict=False)),
        [cut(line, widths[-1]) for line in cells[-1]],
    ]
    lines = zip_longest(*columns, fillvalue="")
    return "\n".join(_GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _broken(lines: Iterable[str], width: int) -> list[str]:
    return [line[i : i + width] for line in lines for i in range(0, len(line) or 1, width)]


def _block(row: Mapping[str, Any]) -> str:
    margin = max(map(len, row)) + len(_GAP)
    lines = []
    for name, value in row.items():
        first, *others = _lines(value)
        lines += [f"{name:<{margin}}{first}", *(f"{'':{margin}}{line}" for line in others)]
    return "\n".join(line.rstrip() for line in lines)


def _lines(value: Any) -> list[str]:
    """Return the lines of one cell, of which there is at least one."""
    if isinstance(value, (list, tuple)):
        return [harmless(_text(item)) for item in value] or [""]
    return [one_line(_text(value))]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return "" if value is None else str(value)
