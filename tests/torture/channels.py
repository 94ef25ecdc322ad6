"""What travels: by itself or with a row, in order or not. All of it durable."""

from __future__ import annotations

from dataclasses import dataclass

import pgpubsub_sql
from tests.torture.models import Row

OFTEN = pgpubsub_sql.Retry(max_attempts=10_000, delay=0.05, factor=2, longest=0.5)
"""Nothing is parked by chance: calamities are charged to whatever message is in hand."""


@dataclass
class Message(pgpubsub_sql.Channel):
    """In batches, in no order."""

    writer: int
    number: int
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN


@dataclass
class Alone(pgpubsub_sql.Channel):
    """One transaction a message."""

    writer: int
    number: int
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN
    batch_size = 1


@dataclass
class Ordered(pgpubsub_sql.Channel):
    """In order for each key."""

    writer: int
    number: int
    key: str
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN
    ordering_key = "key"


@dataclass
class Rows(pgpubsub_sql.TriggerChannel):
    """Rows, in no order."""

    model = Row
    lock_notifications = True
    retry = OFTEN


@dataclass
class OrderedRows(pgpubsub_sql.TriggerChannel):
    """The same rows, in order for each key."""

    model = Row
    lock_notifications = True
    retry = OFTEN
    ordering_key = "key"


CHANNELS = (Message, Alone, Ordered, Rows, OrderedRows)
