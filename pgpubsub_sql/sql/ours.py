"""The tables that our migrations make."""

from __future__ import annotations

from pgpubsub_sql.sql.quoting import quote_table

OUR_TABLES = ("pgpubsub_sql_notification", "pgpubsub_sql_longpayload", "pgpubsub_sql_secret")


def is_our_table(db_table: str) -> bool:
    """Whether a model's *db_table*, in whatever schema, is one of them."""
    return quote_table(db_table).rpartition(".")[2].strip('"') in OUR_TABLES
