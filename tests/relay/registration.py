"""Registering the relay for a channel, as ``migrate`` does for declared subscriptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.ledger import sql


@contextmanager
def registered(channel: str) -> Iterator[None]:
    """Have messages of *channel* stored for the relay, too."""
    sql("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES (%s, 'relay')", channel)
    try:
        yield
    finally:
        sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s AND name = 'relay'", channel)
