"""Identifiers and literals, spelled so that no value can end them.

Our own, because it must be deterministic and the same under both drivers, and because
Django's ``quote_name`` leaves a quote inside a name as it is.
"""

from __future__ import annotations

import hashlib
import re

from pgpubsub_sql.errors import TemplateError

MAX_NAME_BYTES = 63
"""Longest name PostgreSQL keeps whole: NAMEDATALEN - 1, "Identifiers and Key Words"."""

DOLLAR_TAG = "$pgpubsub$"
"""What delimits the function bodies in our templates."""

_QUOTED_PARTS = re.compile(r'"((?:[^"]|"")+)"(?:\.(?=")|$)')


def quote_identifier(name: str) -> str:
    """Return *name* as a quoted identifier.

    >>> quote_identifier('odd"name')
    '"odd""name"'

    Raises :class:`TemplateError` for a name PostgreSQL cannot hold.
    """
    if not name or "\0" in name:
        raise TemplateError(f"{name!r} cannot be the name of a database object.")
    return '"{}"'.format(name.replace('"', '""'))


def quote_literal(value: str) -> str:
    """Return *value* as a string literal that reads the same under any server setting.

    >>> quote_literal("O'Hara")
    "'O''Hara'"

    Raises :class:`TemplateError` for a NUL, which PostgreSQL's text cannot hold.
    """
    if "\0" in value:
        raise TemplateError(f"{value!r} contains a NUL, which PostgreSQL's text cannot hold.")
    quoted = value.replace("'", "''")
    if "\\" not in value and DOLLAR_TAG not in value:
        return f"'{quoted}'"
    escaped = quoted.replace("\\", "\\\\")
    if DOLLAR_TAG in value:
        # Every dollar: of two tags that share one, replacing the first would leave the second.
        escaped = escaped.replace("$", "\\x24")
    return f"E'{escaped}'"


def quote_table(db_table: str) -> str:
    """Return a model's ``db_table`` quoted, in as many parts as Django's own SQL makes of it.

    Django puts quotes around a name, unless it begins and ends with one, and leaves those
    inside as they are. So both ``'"schema"."table"'`` and ``'schema"."table'``, by which people
    put a table into a schema, are two names.
    """
    is_quoted = db_table.startswith('"') and db_table.endswith('"')
    quoted = db_table if is_quoted else f'"{db_table}"'
    parts = _QUOTED_PARTS.findall(quoted)
    if ".".join(f'"{part}"' for part in parts) != quoted:
        return quote_identifier(db_table)
    return ".".join(quote_identifier(part.replace('""', '"')) for part in parts)


def shorten(name: str, limit: int = MAX_NAME_BYTES) -> str:
    """Return *name* if it fits into *limit* bytes of UTF-8, else its start and a digest."""
    encoded = name.encode()
    if len(encoded) <= limit:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:10]
    start = encoded[: limit - len(digest) - 1].decode(errors="ignore")
    return f"{start}_{digest}"
