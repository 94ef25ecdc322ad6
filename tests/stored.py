"""Stored messages in their states."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.db import connections
from django.utils import timezone

from pgpubsub_sql.models import Notification
from tests.app.channels import Job

HOUR = datetime.timedelta(hours=1)

NAME = Job.postgres_name()
"""Of a channel that somebody listens to."""


def store(number: int = 1, *, channel: str = NAME, **values: Any) -> Notification:
    defaults = {"payload": {"number": number}, "available_at": timezone.now()}
    return Notification.objects.create(channel=channel, **defaults | values)


def park(number: int = 1, **values: Any) -> Notification:
    return store(number, available_at=None, attempts=10, **values)


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
