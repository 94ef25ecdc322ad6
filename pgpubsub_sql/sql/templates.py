"""Rendering of the ``.sql`` files.

A file holds one template, named after the file, or several, each after a line ``-- name --``. Names
are unique in a folder, so ``"queries/take"`` is the block ``take`` of any file in ``queries/``.
A comment at the head of a template is for readers of the file only.

A template says itself how each value is quoted, as psql's variables do:

* ``:"name"`` an identifier, which keeps its quotes only where it needs them,
* ``:'name'`` a literal,
* ``:'"schema".object'`` a literal that holds the qualified name of an object,
* ``:{name}`` SQL, which only another template or :func:`quote_table` makes: an :class:`SQL`.

:func:`render` makes a statement, a plain ``str``, for a driver; :func:`part` what goes into another
template.

Names that are unknown, unused or of the wrong kind are a :class:`TemplateError`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files

from pgpubsub_sql.errors import TemplateError
from pgpubsub_sql.sql.quoting import DOLLAR_TAG, quote_identifier, quote_literal

_BLOCK = re.compile(r"^-- (\w+) --\n", re.MULTILINE)

_PLACEHOLDER = re.compile(r"""(?<!:):(?:"(\w+)"|'(\w+)'|\{(\w+)\}|'"(\w+)"(\.\w+)')""")

_ALONE = re.compile(r"^[ \t]*:\{(\w+)\}\n", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class SQL:
    """Text that is SQL already, and goes into a template unquoted.

    No ``str``: a driver, and whatever is wrapped around it, is given nothing else.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def join(self, parts: Iterable[SQL]) -> SQL:
        """Return *parts* with this between them."""
        return SQL(self.text.join(part.text for part in parts))


_NOTHING = SQL("")


def _as_is(value: str | SQL) -> str:
    if not isinstance(value, SQL):
        raise TemplateError(f"{value!r} is not SQL, so a template cannot take it unquoted.")
    return value.text


_QUOTING: tuple[Callable[[str | SQL, str], str], ...] = (
    lambda value, _: quote_identifier(str(value)),
    lambda value, _: quote_literal(str(value)),
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
    """Return *template*, given as ``folder/name``, with each placeholder replaced by its value.

    >>> render("triggers/drop_function", schema="public", function="pgpubsub_channel_posts")
    'DROP FUNCTION IF EXISTS public.pgpubsub_channel_posts() CASCADE;'
    """
    used: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        kind = next(index for index, group in enumerate(match.groups()) if group is not None)
        name = match[kind + 1]
        if name not in values:
            raise TemplateError(f"The template {template} wants {name!r}, which was not given.")
        used.add(name)
        return _QUOTING[kind](values[name], match[5])

    def drop_if_empty(match: re.Match[str]) -> str:
        """An optional part that is left out takes its line with it."""
        if values.get(match[1]) != _NOTHING:
            return match[0]
        used.add(match[1])
        return ""

    rendered = _PLACEHOLDER.sub(replace, _ALONE.sub(drop_if_empty, load(template)))
    if unused := values.keys() - used:
        raise TemplateError(f"The template {template} does not use {', '.join(sorted(unused))}.")
    tags = load(template).count(DOLLAR_TAG)
    if tags and rendered.count(DOLLAR_TAG) != tags:
        raise TemplateError(f"A value for the template {template} would end the function's body.")
    return rendered


def part(template: str, **values: str | SQL) -> SQL:
    """Return what :func:`render` does, to be taken by another template."""
    return SQL(render(template, **values))


@cache
def query(name: str) -> str:
    """Return ``queries/<name>``, whose values are the driver's parameters."""
    return render(f"queries/{name}")
