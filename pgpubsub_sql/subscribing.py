"""Changes to what is registered: a subscription gets another name, or comes to its end."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from django.db import connections, transaction

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.models import Notification, NotificationQuerySet
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane, columns


def unregister(using: str, lane: Lane) -> bool:
    """Store nothing more for a subscription; return whether it was registered.

    Statements that began before still store for it.
    """
    return bool(_execute(using, "unregister", lane._asdict()))


def rename(using: str, lane: Lane, new: str) -> datetime.datetime | None:
    """Store for the subscription *new* what would be stored for that of *lane*.

    Each message is stored for one of them, and never for both. If both are registered already,
    nothing changes; return since when *new* is.

    Raises :class:`NotReady` while one of them is being filled from the history.
    """
    other = Lane(lane.channel, new)
    with transaction.atomic(using=using):
        before = _execute(using, "registered_at", lane._asdict())
        after = _execute(using, "registered_at", other._asdict())
        for one, found in ((lane, before), (other, after)):
            _refuse_filling(one, found)
        if before and not after:
            _execute(using, "rename", lane._asdict() | {"new": new})
        elif not after:
            _execute(using, "register", columns([other]) | {"filled": [False]})
    return after[0][0] if before and after else None


def _refuse_filling(lane: Lane, found: list[tuple[datetime.datetime, bool]]) -> None:
    if found and found[0][1]:
        raise NotReady(
            f"{lane} is being filled with what was sent before it was registered. Rename it after "
            "that: status says how far it is."
        )


def movable(using: str, lane: Lane, since: datetime.datetime | None = None) -> NotificationQuerySet:
    """Return the messages of *lane*; those of which a subscription registered *since* has none."""
    rows = Notification.objects.using(using).filter(
        channel=lane.channel, subscription=lane.subscription
    )
    # What was adopted, with an id below zero, is older than its copies.
    return rows if since is None else rows.filter(created_at__lt=since, pk__gt=0)


def _execute(using: str, name: str, values: Mapping[str, Any]) -> list[Any]:
    with connections[using].cursor() as cursor:
        cursor.execute(query(name), values)
        return list(cursor.fetchall()) if cursor.description else []
