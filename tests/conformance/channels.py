"""Channels that say the same: durable, ephemeral, and durable for several subscriptions."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from decimal import Decimal

import pgpubsub_sql


@dataclass
class Place:
    name: str
    position: tuple[float, float] | None = None


@dataclass
class Said(pgpubsub_sql.Channel):
    """What the listener is to do, the mood says: see ``tests.app.listeners``."""

    number: int
    mood: str = "good"
    text: str = ""
    at: datetime.datetime | None = None
    amount: Decimal | None = None
    places: list[Place] = field(default_factory=list)


@dataclass
class Durable(Said):
    channel_name = "conformance.Durable"
    lock_notifications = True
    retry = pgpubsub_sql.Retry(max_attempts=3, delay=0.05, factor=1, jitter=0)


@dataclass
class Ephemeral(Said):
    channel_name = "conformance.Ephemeral"


@dataclass
class Shared(Said):
    channel_name = "conformance.Shared"
    lock_notifications = True
    retry = Durable.retry
    keep = datetime.timedelta(days=7)
