"""The exposition: the text that ``listen --health-port`` answers at ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from pgpubsub_sql.prometheus.collector import Collector
from pgpubsub_sql.worker.connections import open_for_worker


class Exposition:
    """The metrics of one database, for a process that has no other use for it."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, using: str, search_path: str) -> None:
        self._using = using
        self._registry = CollectorRegistry()
        self._registry.register(Collector([using], search_path=search_path))

    def text(self) -> bytes:
        """Return the metrics. Leaves no connection open."""
        open_for_worker(self._using)
        return generate_latest(self._registry)
