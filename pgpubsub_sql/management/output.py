"""What commands print: tables no wider than the terminal, blocks, and JSON."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder

WIDTH = 80
"""Columns of a file or a pipe."""
_GAP = "  "
_MIN_LAST = 16
"""Least width of a table's last column, unless its cells are narrower."""


def write_rows(
    command: BaseCommand, rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str
) -> None:
    """Write *rows* as JSON, or as a table for people; *empty* if there are none."""
    if as_json:
        write_json(command, rows)
    elif rows:
        command.stdout.write(table(rows, output_width(command)))
    else:
        command.stdout.write(empty)


def write_json(command: BaseCommand, value: Any) -> None:
    """Write *value* as JSON."""
    command.stdout.write(json.dumps(value, indent=2, cls=DjangoJSONEncoder, ensure_ascii=False))


def pluralize(number: int, noun: str) -> str:
    """Return *number* with its noun, such as ``2 messages``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def progress_bar(command: BaseCommand, total: int) -> Callable[[int], object] | None:
    """Return a function that draws a progress bar; None unless standard error is a terminal."""
    if not command.stderr.isatty():
        return None

    def draw(done: int) -> None:
        bar = "#" * round(30 * done / max(done, total))
        end = "\n" if done >= total else ""
        line = f"\r[{bar:<30}] {done}/{max(done, total)}"
        command.stderr.write(line, style_func=str, ending=end)  # no style: Django's is red
        command.stderr.flush()

    return draw


def output_width(command: BaseCommand) -> int:
    """Return how many columns the output of *command* has."""
    return shutil.get_terminal_size().columns if command.stdout.isatty() else WIDTH


def table(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """Return *rows* as a table, or as blocks if they are too wide for a table.

    The last column gets what the others leave of *width*, and is truncated there. If they leave too
    little, the widest of them is broken into lines. A list has one item a line.
    """
    head = list(rows[0])
    cells = [[[name] for name in head], *([_lines(row[name]) for name in head] for row in rows)]
    widths = [max(len(line) for row in cells for line in row[i]) for i in range(len(head))]
    widest = widths.index(max(widths[:-1]))
    left = width - sum(widths[:-1]) - len(_GAP) * (len(head) - 1)
    missing = max(0, min(_MIN_LAST, widths[-1]) - left)
    if missing and widths[widest] - missing < _MIN_LAST:
        return blocks(rows)
    widths[widest] -= missing
    widths[-1] = min(widths[-1], left + missing)
    rule = [["-" * column] for column in widths]
    return "\n".join(_row(row, widths) for row in [cells[0], rule, *cells[1:]])


def blocks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a block of lines for each of *rows*, one value a line; nothing is truncated."""
    return "\n\n".join(_block(row) for row in rows)


def truncate(text: str, width: int) -> str:
    """Return *text*, cut to *width* columns."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def one_line(text: str) -> str:
    """Return *text* on one line, with single spaces."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Return *text* with spaces for line breaks and all that moves a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def _row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    columns = [
        *(_broken(lines, width) for lines, width in zip(cells[:-1], widths, strict=False)),
        [truncate(line, widths[-1]) for line in cells[-1]],
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
    """Return the lines of a cell, at least one."""
    if isinstance(value, (list, tuple)):
        return [printable(_text(item)) for item in value] or [""]
    return [one_line(_text(value))]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return "" if value is None else str(value)
