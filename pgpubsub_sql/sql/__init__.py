"""Everything that is SQL: the templates, their rendering, and the only code that quotes."""

from pgpubsub_sql.sql.intervals import Interval, read_interval
from pgpubsub_sql.sql.own_tables import is_our_table
from pgpubsub_sql.sql.quoting import (
    DOLLAR_TAG,
    MAX_NAME_BYTES,
    holds_nul,
    quote_identifier,
    quote_literal,
    quote_table,
    shorten,
    split_identifiers,
)
from pgpubsub_sql.sql.sqlstates import (
    INVALID_PARAMETER_VALUE,
    LOCK_NOT_AVAILABLE,
    OUT_OF_MEMORY,
    READ_ONLY_TRANSACTION,
    UNDEFINED_COLUMN,
    UNDEFINED_FUNCTION,
    UNDEFINED_TABLE,
    sqlstate,
)
from pgpubsub_sql.sql.templates import SQL, part, query, render

__all__ = [
    "DOLLAR_TAG",
    "INVALID_PARAMETER_VALUE",
    "LOCK_NOT_AVAILABLE",
    "MAX_NAME_BYTES",
    "OUT_OF_MEMORY",
    "READ_ONLY_TRANSACTION",
    "SQL",
    "UNDEFINED_COLUMN",
    "UNDEFINED_FUNCTION",
    "UNDEFINED_TABLE",
    "Interval",
    "holds_nul",
    "is_our_table",
    "part",
    "query",
    "quote_identifier",
    "quote_literal",
    "quote_table",
    "read_interval",
    "render",
    "shorten",
    "split_identifiers",
    "sqlstate",
]
