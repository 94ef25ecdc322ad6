"""Storing messages, and handling what is stored."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from pgpubsub_sql import notify
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job
from tests.ledger import sql


def jobs(*moods: str, channel: Any = Job) -> None:
    """Store a job per mood, in one transaction, numbered from 1."""
    with transaction.atomic():
        for number, mood in enumerate(moods, 1):
            notify(channel(number=number, mood=mood))


def drain(delivery: Delivery, channel: Any = Job) -> None:
    """Handle what is ready."""
    while delivery.handle_stored(channel.postgres_name()):
        pass


def warm_up(delivery: Delivery) -> None:
    """Have the session prepared, so that what it executes and commits next is a batch."""
    drain(delivery)
    delivery.session.prepare()


def hasten() -> None:
    """Make ready what waits. A row that is ready may say that a worker has died, and stays so."""
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp()"
        " WHERE available_at > clock_timestamp()"
    )
