"""Pausing: no worker takes messages of a paused subscription."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connections, transaction

from pgpubsub_sql.channels import notified_names
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane


def pause(using: str, channels: Collection[str], subscription: str | None = None) -> set[Lane]:
    """Pause these durable channels, or one subscription of each; return what is paused then.

    Channels are given by their names in PostgreSQL. What workers have taken before is still
    handled.
    """
    values = {"channels": list(channels), "subscription": subscription}
    with connections[using].cursor() as cursor:
        cursor.execute(query("pause"), values)
        return {Lane(*row) for row in cursor.fetchall()}


def resume(using: str, channels: Collection[str], subscription: str | None = None) -> set[Lane]:
    """Have workers take messages of these again, now; return those that were paused."""
    values = {"channels": list(channels), "subscription": subscription}
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(query("resume"), values)
        resumed = {Lane(*row) for row in cursor.fetchall()}
        names = list(dict.fromkeys(lane.channel for lane in resumed))
        cursor.execute(query("ring"), {"channels": notified_names(names)})
    return resumed
