"""Pausing: no worker takes messages of a paused channel."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connections, transaction

from pgpubsub_sql.channels import notified_names
from pgpubsub_sql.sql import query


def pause(using: str, channels: Collection[str]) -> None:
    """Pause these durable channels, by their names in PostgreSQL.

    What workers have taken before is still handled.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(query("pause"), {"channels": list(channels)})


def resume(using: str, channels: Collection[str]) -> set[str]:
    """Have workers take messages of these channels again, now; return those that were paused."""
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(query("resume"), {"channels": list(channels)})
        resumed = {name for (name,) in cursor.fetchall()}
        cursor.execute(query("ring"), {"channels": notified_names(list(resumed))})
    return resumed
