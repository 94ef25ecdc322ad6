"""Signals of a worker that starts, reconnects and stops."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError

from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job, Shout
from tests.ledger import sql
from tests.signals.support import names

pytestmark = pytest.mark.django_db(transaction=True)


def test_workers_send_signals_when_they_start_and_stop(told: list[Any]) -> None:
    Worker([Job, Shout]).drain()
    assert names(told) == ["worker_started", "worker_stopped"]
    for _, arguments in told:
        assert arguments["sender"] is Worker
        assert arguments["using"] == "default"
        assert arguments["channels"] == [Job, Shout]


def test_worker_stopped_is_sent_whatever_the_reason(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker([Job])

    def broken() -> None:
        raise DatabaseError("out of order")

    monkeypatch.setattr(worker, "_connect", broken)
    with pytest.raises(DatabaseError):
        worker.run()
    assert names(told) == ["worker_started", "worker_stopped"]


def test_worker_reconnected_is_sent(told: list[Any]) -> None:
    """P9."""
    worker = Worker([Job])
    with worker.shutdown:
        worker._connect()
        raw = worker.doorbell._connection
        sql("SELECT pg_terminate_backend(%s)", raw.info.backend_pid)
        while worker.doorbell._connection is raw:
            worker.step()
        worker.doorbell.close()
    assert names(told) == ["worker_reconnected"]
    assert told[0][1]["channels"] == [Job]
