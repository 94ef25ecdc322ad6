"""Identifiers and literals, quoted so that no value can end them.

Not the driver's, because the result must be the same under both drivers; not Django's
``quote_name``, which leaves a quote inside a name as it is.
"""

from __future__ import annotations

import hashlib
import re

from pgpubsub_sql.errors import TemplateError

MAX_NAME_BYTES = 63
"""Length of the longest name that PostgreSQL does not truncate: NAMEDATALEN - 1."""

DOLLAR_TAG = "$pgpubsub$"
"""Delimiter of the function bodies in our templates."""

# JSON writes a backslash as two, so only an odd number of them makes u0000 the character.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

_LISTED = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

_RESERVED = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
boolean both case cast char character check coalesce collate collation column concurrently
constraint create cross current_catalog current_date current_role current_schema
current_time current_timestamp current_user dec decimal default deferrable desc distinct do
else end except exists extract false fetch float for foreign freeze from full grant greatest
group grouping having ilike in initially inner inout int integer intersect interval into is
isnull join json json_array json_arrayagg json_exists json_object json_objectagg json_query
json_scalar json_serialize json_table json_value lateral leading least left like limit
localtime localtimestamp merge_action national natural nchar none normalize not notnull null
nullif numeric offset on only or order out outer overlaps overlay placing position precision
primary real references returning right row select session_user setof similar smallint some
substring symmetric system_user table tablesample then time timestamp to trailing treat trim
true union unique user using values varchar variadic verbose when where window with
xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot
xmlserialize xmltable
"""
"""Keywords of PostgreSQL 14 to 18 that ``pg_get_keywords()`` does not call unreserved."""

_RESERVED_BY_PLPGSQL = "begin by declare execute foreach if loop strict while"
"""PL/pgSQL's own, from "src/pl/plpgsql/src/pl_reserved_kwlist.h"."""

_KEYWORDS = frozenset((_RESERVED + _RESERVED_BY_PLPGSQL).split())

_QUOTED_PARTS = re.compile(r'"((?:[^"]|"")+)"(?:\.(?=")|$)')


def quote_identifier(name: str) -> str:
    """Return *name* as an identifier, in quotes only where PostgreSQL needs them.

    >>> quote_identifier("blog_author"), quote_identifier("order"), quote_identifier('odd"name')
    ('blog_author', '"order"', '"odd""name"')

    So tools that copy a schema as text find names as PostgreSQL itself writes them.
    Raises :class:`TemplateError` for a name that PostgreSQL cannot have.
    """
    if _PLAIN.fullmatch(name) and name not in _KEYWORDS:
        return name
    return put_in_quotes(name)


def put_in_quotes(name: str) -> str:
    """Return *name* as an identifier, always in quotes."""
    if not name or "\0" in name:
        raise TemplateError(f"{name!r} cannot be the name of a database object.")
    return '"{}"'.format(name.replace('"', '""'))


def quote_literal(value: str) -> str:
    """Return *value* as a string literal that means the same under any server setting.

    >>> quote_literal("O'Hara")
    "'O''Hara'"

    Raises :class:`TemplateError` for a NUL, which PostgreSQL's text cannot contain.
    """
    if "\0" in value:
        raise TemplateError(f"{value!r} contains a NUL, which PostgreSQL's text cannot hold.")
    return quote_sql(value)


def quote_sql(text: str) -> str:
    """Return SQL as a string literal. NULs, which mark the line breaks of templates, are kept."""
    quoted = text.replace("'", "''")
    if "\\" not in text and DOLLAR_TAG not in text:
        return f"'{quoted}'"
    escaped = quoted.replace("\\", "\\\\")
    if DOLLAR_TAG in text:
        # Every dollar: two tags may share one, and replacing the first would leave the second.
        escaped = escaped.replace("$", "\\x24")
    return f"E'{escaped}'"


def quote_table(db_table: str) -> str:
    """Return a model's ``db_table`` quoted, in as many parts as in Django's own SQL."""
    return ".".join(map(quote_identifier, name_parts(db_table)))


def name_parts(name: str) -> list[str]:
    """Return the parts of the name of a model's table or column, as in Django's own SQL.

    Django puts quotes around a name unless it begins and ends with one, and leaves those inside as
    they are. So both ``'"schema"."table"'`` and ``'schema"."table'``, with which people put a table
    into a schema, are two names.
    """
    is_quoted = name.startswith('"') and name.endswith('"')
    quoted = name if is_quoted else f'"{name}"'
    parts = _QUOTED_PARTS.findall(quoted)
    if ".".join(f'"{part}"' for part in parts) != quoted:
        return [name]
    return [part.replace('""', '"') for part in parts]


def split_identifiers(text: str) -> list[str]:
    """Return the names in a list such as a search_path, where some are in quotes.

    >>> split_identifiers('pg_catalog, Tenant, "Odd""one"')
    ['pg_catalog', 'tenant', 'Odd"one']
    """
    found = _LISTED.findall(text)
    return [quoted.replace('""', '"') or plain.lower() for quoted, plain in found]


def shorten(name: str, limit: int = MAX_NAME_BYTES) -> str:
    """Return *name* if it fits into *limit* bytes of UTF-8, otherwise its start and a digest."""
    encoded = name.encode()
    if len(encoded) <= limit:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:10]
    start = encoded[: limit - len(digest) - 1].decode(errors="ignore")
    return f"{start}_{digest}"


def holds_nul(text: str) -> bool:
    """Whether the JSON *text* contains a NUL, which PostgreSQL's text cannot."""
    return "\\u0000" in text and _NUL.search(text) is not None
