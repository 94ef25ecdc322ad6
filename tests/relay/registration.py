"""What ``migrate`` and ``relay --setup`` do: a channel is registered, its streams are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.db import connections

from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.owner import this_database
from pgpubsub_sql.relay.streams import make


def make_ours(broker: Broker, stream: Stream) -> str:
    """Make a stream that the database of the tests publishes to; return what was done."""
    return broker.run(make(broker, stream, this_database("default")))


@contextmanager
def registered(channel: str, using: str = "default") -> Iterator[None]:
    """Have messages of *channel* stored for the relay, too."""
    change = partial(_change, using, [channel])
    change("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES (%s, 'relay')")
    try:
        yield
    finally:
        change("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s AND name = 'relay'")


def _change(using: str, values: list[str], statement: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)
