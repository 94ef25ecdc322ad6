"""What a role that may do nothing but connect sends, and what a worker makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemNews
from tests.ledger import numbers, sql, stranger
from tests.workers import poll

NEWS = ItemNews.postgres_name()
FORGED = json.dumps(
    {
        "op": "INSERT",
        "when": "AFTER",
        "old": None,
        "new": {"id": 666, "name": "forged"},
        "context": {"user": "root"},
    }
)


@contextmanager
def session(role: str) -> Iterator[Any]:
    """A cursor of a session of this role."""
    with stranger() as cursor:
        cursor.execute(f"SET SESSION AUTHORIZATION {role}")
        yield cursor


def pid_of(cursor: Any) -> int:
    cursor.execute("SELECT pg_backend_pid()")
    return int(cursor.fetchone()[0])


def send(cursor: Any, channel: str, payload: str) -> None:
    cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


def work(worker: Worker) -> None:
    """Handle all that was sent up to now."""
    send_to_end = json.dumps({"number": -1})
    sql("SELECT pg_notify('app.Shout', %s)", send_to_end)
    seen = numbers("hear").count(-1)
    while numbers("hear").count(-1) == seen or worker._ephemeral:
        worker.step()
    poll(worker)
