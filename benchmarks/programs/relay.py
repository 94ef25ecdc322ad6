"""The relay: one process publishes from its database, another receives into its own.

``RELAY`` in the environment is the setting PGPUBSUB_RELAY, as JSON.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import project

project.configure("pgpubsub_sql")

from django.db import connection  # noqa: E402

import pgpubsub_sql  # noqa: E402
from benchmarks.programs.program import LEDGER, Program, main  # noqa: E402
from pgpubsub_sql.relay.broker import Broker  # noqa: E402
from pgpubsub_sql.relay.consumer import Incoming  # noqa: E402
from pgpubsub_sql.relay.inbox import InboxWriter  # noqa: E402
from pgpubsub_sql.relay.names import Stream  # noqa: E402
from pgpubsub_sql.relay.owner import this_database  # noqa: E402
from pgpubsub_sql.relay.position import StreamPosition  # noqa: E402
from pgpubsub_sql.relay.publisher import PublishingWorker  # noqa: E402
from pgpubsub_sql.relay.receiver import Receiver  # noqa: E402
from pgpubsub_sql.relay.settings import RelaySettings  # noqa: E402
from pgpubsub_sql.relay.streams import make, streams_of  # noqa: E402
from pgpubsub_sql.worker.shutdown import Shutdown  # noqa: E402

KEYS = 1000
TABLES = "pgpubsub_sql_notification, pgpubsub_sql_position, pgpubsub_sql_inbox"
STORE = """
    INSERT INTO pgpubsub_sql_notification (channel, subscription, payload, key)
    SELECT 'benchmark.Sent', 'relay', jsonb_build_object('number', number, 'key', key),
        jsonb_build_array(key)::text
    FROM generate_series(1, %(count)s) AS number
    CROSS JOIN LATERAL (SELECT number %% %(keys)s AS key) AS keyed"""


@dataclass
class Sent(pgpubsub_sql.Channel):
    """What is relayed; of which the receiving side declares the rest below."""

    number: int
    key: int
    lock_notifications = True
    ordering_key = "key"
    channel_name = "benchmark.Sent"


class WatchedInbox(InboxWriter):
    """Notes which messages are stored, once their transaction has committed."""

    def store(
        self, stream: Stream, position: StreamPosition, messages: Sequence[Incoming]
    ) -> StreamPosition:
        after = super().store(stream, position, messages)
        for message in messages:
            LEDGER.add(json.loads(message.payload)["number"])
        return after


class Relay(Program):
    """Publishes, or receives, as *role* says."""

    def __init__(self, role: str) -> None:
        self._publishes = role == "publish"
        Sent.relay = self._publishes
        Sent.received_from = None if self._publishes else "nats"

    def set_up(self) -> None:
        project.migrate()

    def store(self, workload: str, count: int) -> None:
        """Have something to relay, and the streams for it."""
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {TABLES}")
            cursor.execute(STORE, {"count": count, "keys": KEYS})
            cursor.execute("VACUUM ANALYZE pgpubsub_sql_notification")
        settings, channel = _settings(), Sent.postgres_name()
        with Broker(settings) as broker:
            for stream in streams_of(settings.publisher(), channel, settings):
                broker.run(make(broker, stream, this_database("default")))

    def receive(self, kind: str) -> None:
        settings = _settings()
        if self._publishes:
            PublishingWorker([Sent], settings).run()
            return
        with Shutdown() as shutdown:
            Receiver([Sent], settings, shutdown=shutdown, inbox=WatchedInbox).run()

    def send_one(self, number: int, held: float) -> float:
        started = time.perf_counter()
        pgpubsub_sql.notify(Sent(number=number, key=number % KEYS))
        return started


def _settings() -> RelaySettings:
    given = json.loads(os.environ["RELAY"])
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return RelaySettings(**(given | lists))


if __name__ == "__main__":
    main(Relay)
