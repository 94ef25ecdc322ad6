"""Keeping: for how long a channel keeps messages that are handled, and in which partition."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.channels import BaseChannel, longest_keep
from pgpubsub_sql.errors import NotReadyYet
from pgpubsub_sql.sql import SQL, part, query
from pgpubsub_sql.sql.own_tables import SLOTS
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import check_role

USED_SLOTS = 28
"""Number of partitions that hold what is kept for longest. The others have been emptied, or will be
before their turn comes again."""
DAY = timedelta(days=1)
TYPES = {"slot": "smallint", "batch": "bigint", "keep": "interval"}
"""Of the parameters that :func:`keeping` returns, in PostgreSQL."""


def is_kept(channel: type[BaseChannel]) -> bool:
    """Return whether handled messages of *channel* are kept."""
    return channel.lock_notifications and channel.keep is not None


def keeping(channel: type[BaseChannel]) -> dict[str, Any]:
    """Return the parameters of a statement that keeps messages of *channel*, now.

    The slot need not be exact: what is in a partition says itself for how long it is kept. The
    number of the batch comes from the operating system: a process that forks has its generators
    twice.
    """
    keep = channel.keep or timedelta(0)
    day = timedelta(seconds=time.time() + keep.total_seconds()) // DAY
    return {"keep": keep, "slot": day // slot_days() % SLOTS, "batch": secrets.randbits(63)}


def slot_days() -> int:
    """Return the number of days that have one slot, by the longest time that a channel keeps."""
    return max(1, math.ceil((longest_keep() or DAY) / DAY / USED_SLOTS))


def keep_taken(
    *,
    is_unusual: str = "coalesce(min(expires_at) <= statement_timestamp(), false)",
    outcomes: str = "NULL",
    reasons: str = "NULL",
    durations: str = "NULL",
    part_of_bucket: str = "id >> 12",
) -> SQL:
    """Return what keeps the rows of ``taken``; the arguments are SQL.

    Without *outcomes*, they were handled now, unless they have expired. Messages with the same
    *part_of_bucket* share a row; ``id`` gives each its own, as an array has no room for more than a
    gigabyte.
    """
    return part(
        "queries/kept",
        is_unusual=SQL(is_unusual),
        outcomes=SQL(outcomes),
        reasons=SQL(reasons),
        durations=SQL(durations),
        part=SQL(part_of_bucket),
    )


def check_history(connection: BaseDatabaseWrapper, channels: Sequence[type[BaseChannel]]) -> None:
    """Raise :class:`NotReady` if nothing can be kept of these *channels*, which keep something."""
    if not channels:
        return
    with connection.cursor() as cursor:
        cursor.execute(query("history_parts"))
        ((parts,),) = cursor.fetchall()
    if parts < SLOTS:
        alias = connection.alias
        raise NotReadyYet(
            f"Channel {channels[0].postgres_name()} keeps its messages, but the database {alias!r} "
            "has no partitions for them, or not all. "
            f"Run: python manage.py migrate --database {alias}"
        )
    check_role(connection, Role.HISTORIAN)
