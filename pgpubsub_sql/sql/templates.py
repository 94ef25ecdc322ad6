"""Rendering of the ``.sql`` files.

A file holds one template, named after the file, or several, each after a line ``-- name --``. Names
are unique in a folder, so ``"queries/take"`` is the block ``take`` of any file in ``queries/``.
A comment at the head of a template is for readers of the file only.

The template declares how each value is quoted, as psql's variables do:

* ``:"name"`` an identifier, which keeps its quotes only where it needs them,
* ``:'name'`` a literal,
* ``:'"schema".object'`` a literal that holds the qualified name of an object,
* ``:{name}`` SQL, taken as it is: an :class:`SQL`.

A line with an :class:`SQL` that is empty is left out. The lines of a longer one are indented like
the line that takes it.

:func:`render` returns a statement for a driver, a plain ``str``; :func:`part` returns an
:class:`SQL` for another template. Both raise :class:`TemplateError` for names that are unknown,
unused or of the wrong kind.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pgpubsub_sql.errors import TemplateError
from pgpubsub_sql.sql.quoting import DOLLAR_TAG, quote_identifier, quote_literal, quote_sql

_BLOCK = re.compile(r"^-- (\w+) --\n", re.MULTILINE)

_PLACEHOLDER = re.compile(r"""(?<!:):(?:"(\w+)"|'(\w+)'|\{(\w+)\}|'"(\w+)"(\.\w+)')""")

_BREAK = "\0"
"""A line break that a template has, until all is rendered: those of values stay as they are.

No value holds this character: :mod:`.quoting` refuses it.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class SQL:
    """Text that is SQL already, and goes into a template unquoted.

    Not a ``str``, which a driver, or whatever is wrapped around it, would take for a statement.
    """

    text: str

    def __str__(self) -> str:
        return self.text.replace(_BREAK, "\n")

    def join(self, parts: Iterable[SQL]) -> SQL:
        """Return *parts* with this between them."""
        return SQL(self.text.join(part.text for part in parts))


NOTHING = SQL("")
NEW_LINE = SQL(_BREAK)
"""What joins parts of which each is to begin a line."""


def _as_is(value: str | SQL) -> str:
    if not isinstance(value, SQL):
        raise TemplateError(f"{value!r} is not SQL, so a template cannot take it unquoted.")
    return value.text


def _literal(value: str | SQL) -> str:
    return quote_sql(value.text) if isinstance(value, SQL) else quote_literal(value)


_QUOTING: tuple[Callable[[str | SQL, str], str], ...] = (
    lambda value, _: quote_identifier(str(value)),
    lambda value, _: _literal(value),
    lambda value, _: _as_is(value),
    lambda value, rest: quote_literal(quote_identifier(str(value)) + rest),
)


@cache
def templates(folder: str) -> Mapping[str, str]:
    """Return the templates of ``sql/<folder>/`` by name, without the comments at their head."""
    found: dict[str, str] = {}
    for file in files(__package__).joinpath(folder).iterdir():
        stem, _, suffix = file.name.rpartition(".")
        if suffix != "sql":
            continue
        for name, text in _blocks(stem, file.read_text(encoding="utf-8")):
            if name in found:
                raise TemplateError(f"There are two templates {folder}/{name}.")
            found[name] = text
    return found


def _blocks(stem: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the templates of the file *stem*, each with its name."""
    whole, *blocks = _BLOCK.split(text)
    names, texts = (blocks[::2], blocks[1::2]) if blocks else ([stem], [whole])
    for name, block in zip(names, texts, strict=True):
        lines = block.strip().splitlines()
        while lines and lines[0].startswith("--"):
            lines.pop(0)
        yield name, "\n".join(lines)


def load(template: str) -> str:
    """Return the text of *template*, given as ``folder/name``."""
    folder, _, name = template.partition("/")
    try:
        return templates(folder)[name]
    except (KeyError, OSError):
        raise TemplateError(f"There is no template {template}.") from None


def render(template: str, **values: str | SQL) -> str:
    """Return *template*, given as ``folder/name``, with its values.

    >>> render("triggers/drop_function", schema="public", function="pgpubsub_channel_posts")
    'DROP FUNCTION IF EXISTS public.pgpubsub_channel_posts() CASCADE;'
    """
    return str(part(template, **values))


def part(template: str, **values: str | SQL) -> SQL:
    """Return what :func:`render` returns, to be taken by another template."""
    text = load(template)
    lines, names = _parsed(text)
    _check_names(template, names, values)
    filled = (_filled(line, values) for line in lines if _is_wanted(line, values))
    rendered = _BREAK.join(filled)
    tags = text.count(DOLLAR_TAG)
    if tags and rendered.count(DOLLAR_TAG) != tags:
        raise TemplateError(f"A value for the template {template} would end the function's body.")
    return SQL(rendered)


@cache
def query(name: str) -> str:
    """Return ``queries/<name>``, whose values are the driver's parameters."""
    return render(f"queries/{name}")


class _Line(NamedTuple):
    """A line of a template."""

    text: str
    names: tuple[str, ...]
    """Names of the values that it takes."""

    @property
    def indent(self) -> str:
        """Return the spaces at its beginning."""
        return self.text[: len(self.text) - len(self.text.lstrip(" "))]


@cache
def _parsed(text: str) -> tuple[list[_Line], set[str]]:
    """Return the lines of a template, and the names of all values."""
    lines = [_Line(line, tuple(_names(line))) for line in text.split("\n")]
    return lines, {name for line in lines for name in line.names}


def _names(line: str) -> Iterator[str]:
    for groups in _PLACEHOLDER.findall(line):
        yield from filter(None, groups[:4])


def _check_names(template: str, names: set[str], values: Mapping[str, object]) -> None:
    if missing := names - values.keys():
        wanted = ", ".join(map(repr, sorted(missing)))
        raise TemplateError(f"The template {template} wants {wanted}, which was not given.")
    if unused := values.keys() - names:
        raise TemplateError(f"The template {template} does not use {', '.join(sorted(unused))}.")


def _is_wanted(line: _Line, values: Mapping[str, str | SQL]) -> bool:
    return all(values[name] != NOTHING for name in line.names)


def _filled(line: _Line, values: Mapping[str, str | SQL]) -> str:
    """Return *line* with its values, each line of theirs as deep as this one."""

    def quoted(match: re.Match[str]) -> str:
        kind = next(index for index, group in enumerate(match.groups()) if group is not None)
        text = _QUOTING[kind](values[match[kind + 1]], match[5])
        return text.replace(_BREAK, _BREAK + line.indent)

    return _PLACEHOLDER.sub(quoted, line.text) if line.names else line.text
