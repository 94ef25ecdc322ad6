"""The collector: what is stored, who listens, and what became of messages, as metrics."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import Error, connections
from prometheus_client import registry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pgpubsub_sql.counting import totals
from pgpubsub_sql.django_internals import is_usable
from pgpubsub_sql.errors import NotReadyYet, PubSubError
from pgpubsub_sql.inspection import (
    StoredCounts,
    filled_lanes,
    long_calls,
    our_databases,
    paused_lanes,
    stored_counts,
    stored_lanes,
    table_care,
)
from pgpubsub_sql.listeners import registry as listeners
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.own_tables import COUNTED
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import check_ready, check_role
from pgpubsub_sql.time_limit import TookTooLong, limited

logger = logging.getLogger("pgpubsub_sql.prometheus")

CACHE_SECONDS = 10.0
"""For so long what was found is returned again, however often somebody asks."""

_LANE = ("database", "channel", "subscription")
_LISTENER = (*_LANE, "listener")

GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "up": ("Whether the database could be asked", ("database",)),
    "listening_workers": ("Workers that listen", ("database",)),
    "workers_behind": ("Workers that have not read what was sent to them", ("database",)),
    "relays": ("Processes of listen --relay that publish", ("database",)),
    "relays_stuck": ("Those of them from which the broker takes nothing now", ("database",)),
    "notify_queue_usage_ratio": ("How full PostgreSQL's NOTIFY queue is, of 1", ("database",)),
    "dead_rows": ("Rows that vacuum has to remove from the table of messages", ("database",)),
    "oldest_transaction_seconds": ("Age of the oldest open transaction", ("database",)),
    "messages_ready": ("Messages that the next free worker takes, up to 10,001", _LANE),
    "messages_in_flight": ("Messages that workers are handling, up to 10,001", _LANE),
    "messages_waiting": ("Messages that are delayed or to be retried, up to 10,001", _LANE),
    "messages_failed": ("Messages whose last attempt failed, up to 10,001", _LANE),
    "messages_parked": ("Those of the failed messages that are parked", _LANE),
    "oldest_ready_seconds": ("For how long the oldest ready message has been due", _LANE),
    "paused": ("Whether it is paused", _LANE),
    "filling": ("Whether it is being filled with what was sent before it was registered", _LANE),
    "call_seconds": (
        "For how long a worker has been handling a message, beyond one second",
        (*_LISTENER, "host", "process"),
    ),
}
"""Help and labels of each gauge, without the prefix of its name."""
COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "deliveries": ("Messages, by what a listener made of them", (*_LISTENER, "outcome")),
    "listener_seconds": ("Seconds that listeners took", _LISTENER),
}
"""The same of each counter, whose name also gets the suffix ``_total``."""


class Collector(registry.Collector):
    """Collects the metrics of *databases*, which are aliases; by default of all with our tables.

    ::

        from prometheus_client import REGISTRY
        from pgpubsub_sql.prometheus import Collector

        REGISTRY.register(Collector())

    It asks the databases when metrics are fetched, at most every ten seconds, and not when it is
    registered. Every process returns the same.
    """

    def __init__(self, databases: Sequence[str] | None = None, *, search_path: str = "") -> None:
        self._databases = databases
        self._search_path = search_path
        """Where our tables are; empty for the search_path of the connection."""
        self._lock = threading.Lock()
        self._found: list[Metric] = []
        self._found_at = -CACHE_SECONDS
        self._complaints: dict[str, str] = {}
        """Why a database could not be asked the last time, by its alias."""

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values, so that registering asks no database."""
        return _families().values()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        with self._lock:
            if time.monotonic() - self._found_at >= CACHE_SECONDS:
                self._found = self._collect()
                self._found_at = time.monotonic()
            return self._found

    def _collect(self) -> list[Metric]:
        families = _families()
        for alias in our_databases() if self._databases is None else self._databases:
            try:
                with _asked(alias, self._search_path):
                    found = list(_samples(alias))
            except (Error, PubSubError, TookTooLong) as error:
                if self._databases is None and isinstance(error, NotReadyYet):
                    continue  # it has no tables of ours, and nobody has said that it should
                self._complain(alias, str(error).strip())
                families["up"].add_metric([alias], 0)
                continue
            self._complaints.pop(alias, None)
            for name, labels, value in found:
                families[name].add_metric([alias, *labels], value)
        return list(families.values())

    def _complain(self, alias: str, reason: str) -> None:
        """Log why a database cannot be asked, once."""
        if self._complaints.get(alias) != reason:
            logger.warning("The metrics of the database %r cannot be read: %s", alias, reason)
        self._complaints[alias] = reason


def _families() -> dict[str, Any]:
    gauges = {
        name: GaugeMetricFamily(f"pgpubsub_{name}", text, labels=labels)
        for name, (text, labels) in GAUGES.items()
    }
    counters = {
        name: CounterMetricFamily(f"pgpubsub_{name}", text, labels=labels)
        for name, (text, labels) in COUNTERS.items()
    }
    return {**gauges, **counters}


@contextmanager
def _asked(alias: str, search_path: str) -> Iterator[None]:
    """Ask a database within the block; leave no connection open that was not open before."""
    connection = connections[alias]
    is_ours = not connection.in_atomic_block
    was_open = connection.connection is not None
    try:
        with limited(alias):
            if search_path:
                _set_locally(alias, "search_path", search_path)
            check_ready(connection)
            check_role(connection, Role.METER)
            yield
    except Error:
        was_open = was_open and is_usable(connection)
        raise
    finally:
        if is_ours and not was_open:
            connection.close()


def _set_locally(alias: str, name: str, value: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(query("set_setting"), {"name": name, "value": value, "local": True})


_Sample = tuple[str, Sequence[str], float]
"""Name of a metric, values of its labels without the database, and its value."""


def _samples(alias: str) -> Iterator[_Sample]:
    yield "up", (), 1
    with connections[alias].cursor() as cursor:
        cursor.execute(query("workers"))
        ((workers, behind, relays, stuck),) = cursor.fetchall()
    yield "listening_workers", (), workers
    yield "workers_behind", (), behind
    yield "relays", (), relays
    yield "relays_stuck", (), stuck
    care = table_care(alias)
    yield "notify_queue_usage_ratio", (), care.queue_usage
    yield "dead_rows", (), care.dead
    yield "oldest_transaction_seconds", (), care.oldest.seconds if care.oldest else 0
    for call in long_calls(alias):
        yield (
            "call_seconds",
            (call.channel, "", call.listener, call.host, str(call.process)),
            call.seconds,
        )
    durable = (one for one in listeners.channels() if one.lock_notifications)
    known = [stored_lanes(alias), paused_lanes(alias), filled_lanes(alias)]
    lanes = {*listeners.lanes_of(durable)}.union(*known)
    for lane, one in stored_counts(alias, sorted(lanes)).items():
        yield from ((metric, lane, value) for metric, value in _stored(one))
    for total in totals(alias):
        labels = (total.channel, total.subscription, total.listener)
        for outcome in COUNTED:
            yield "deliveries", (*labels, outcome), getattr(total, outcome)
        yield "listener_seconds", labels, total.seconds


def _stored(one: StoredCounts) -> Iterator[tuple[str, float]]:
    for state in ("ready", "in_flight", "waiting", "failed", "parked"):
        yield f"messages_{state}", getattr(one, state)
    yield "oldest_ready_seconds", one.oldest or 0
    yield "paused", one.paused_seconds is not None
    yield "filling", one.filled is not None
