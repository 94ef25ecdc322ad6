"""Stored messages in their states."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.db import connections
from django.db.models import Func
from django.utils import timezone

from pgpubsub_sql.models import Notification
from tests.app.channels import Job

HOUR = datetime.timedelta(hours=1)

NOW = Func(function="clock_timestamp")

TRACEBACK = "Traceback (most recent call last):\n  File …\nValueError: no such thing\n"

NAME = Job.postgres_name()
"""Of a channel that somebody listens to."""


def store(number: int = 1, *, channel: str = NAME, **values: Any) -> Notification:
    defaults = {"payload": {"number": number}, "available_at": timezone.now()}
    return Notification.objects.create(channel=channel, **defaults | values)


def park(number: int = 1, **values: Any) -> Notification:
    return store(number, **{"available_at": None, "attempts": 10, "failed_at": NOW} | values)


def retrying(number: int = 1, **values: Any) -> Notification:
    """Store a message that has failed, and waits for its next attempt."""
    failed = {"attempts": 3, "last_error": TRACEBACK, "reason": "ValueError", "failed_at": NOW}
    return store(number, **{"available_at": timezone.now() + HOUR} | failed | values)


def ids(*rows: Notification) -> set[int]:
    return {row.pk for row in rows}


@contextmanager
def in_flight(*ids: int) -> Iterator[int]:
    """Take these messages in a session, as a worker does; yield its process id."""
    worker = connections.create_connection("default")
    worker.set_autocommit(False)
    with closing(worker), worker.cursor() as cursor:
        cursor.execute("DELETE FROM pgpubsub_sql_notification WHERE id = ANY (%s)", [list(ids)])
        cursor.execute("SELECT pg_backend_pid()")
        yield cursor.fetchone()[0]
        worker.rollback()
