"""Everything that is SQL: the templates, their rendering, and the only quoting there is."""

from pgpubsub_sql.sql.quoting import (
    MAX_NAME_BYTES,
    quote_identifier,
    quote_literal,
    quote_table,
    shorten,
)
from pgpubsub_sql.sql.templates import SQL, query, render

__all__ = [
    "MAX_NAME_BYTES",
    "SQL",
    "query",
    "quote_identifier",
    "quote_literal",
    "quote_table",
    "render",
    "shorten",
]
