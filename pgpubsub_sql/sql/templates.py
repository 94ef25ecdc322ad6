"""Rendering of the ``.sql`` files.

A template says itself how each value is quoted, as psql's variables do:

* ``:"name"`` an identifier,
* ``:'name'`` a literal,
* ``:{name}`` SQL, which only another template or :func:`quote_table` makes: an :class:`SQL`.

Names that are unknown, unused or of the wrong kind are a :class:`TemplateError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files

from pgpubsub_sql.errors import TemplateError
from pgpubsub_sql.sql.quoting import DOLLAR_TAG, quote_identifier, quote_literal

_PLACEHOLDER = re.compile(r"""(?<!:):(?:"(\w+)"|'(\w+)'|\{(\w+)\})""")

_ALONE = re.compile(r"^[ \t]*:\{(\w+)\}\n", re.MULTILINE)


class SQL(str):
    """Text that is SQL already, and goes into a template unquoted."""

    __slots__ = ()


def _as_is(value: str) -> str:
    if not isinstance(value, SQL):
        raise TemplateError(f"{value!r} is not SQL, so a template cannot take it unquoted.")
    return value


_QUOTING: tuple[Callable[[str], str], ...] = (quote_identifier, quote_literal, _as_is)


@cache
def load(template: str) -> str:
    """Return the text of ``sql/<template>.sql`` without its leading comment."""
    text = files(__package__).joinpath(f"{template}.sql").read_text(encoding="utf-8")
    lines = text.splitlines()
    while lines and lines[0].startswith("--"):
        lines.pop(0)
    return "\n".join(lines).strip()


def render(template: str, **values: str) -> SQL:
    """Return ``sql/<template>.sql`` with each placeholder replaced by its quoted value.

    >>> render("triggers/drop_function", schema="public", function="pgpubsub_channel_blog.Posts")
    'DROP FUNCTION IF EXISTS "public"."pgpubsub_channel_blog.Posts"() CASCADE;'
    """
    used: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        kind = next(index for index, group in enumerate(match.groups()) if group is not None)
        name = match[kind + 1]
        if name not in values:
            raise TemplateError(f"{template}.sql wants {name!r}, which was not given.")
        used.add(name)
        return _QUOTING[kind](values[name])

    def drop_if_empty(match: re.Match[str]) -> str:
        """An optional part that is left out takes its line with it."""
        if values.get(match[1]) != "":
            return match[0]
        used.add(match[1])
        return ""

    rendered = _PLACEHOLDER.sub(replace, _ALONE.sub(drop_if_empty, load(template)))
    if unused := values.keys() - used:
        raise TemplateError(f"{template}.sql does not use {', '.join(sorted(unused))}.")
    tags = load(template).count(DOLLAR_TAG)
    if tags and rendered.count(DOLLAR_TAG) != tags:
        raise TemplateError(f"A value for {template}.sql would end the function's body.")
    return SQL(rendered)


@cache
def query(name: str) -> str:
    """Return ``sql/queries/<name>.sql``, whose values are the driver's parameters."""
    return render(f"queries/{name}")
