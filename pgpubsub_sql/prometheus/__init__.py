"""Metrics for Prometheus: ``pip install 'pgpubsub-sql[prometheus]'``, and docs/howto/monitor.md."""

from pgpubsub_sql.prometheus.collector import Collector

__all__ = ["Collector"]
