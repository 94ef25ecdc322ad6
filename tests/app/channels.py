from __future__ import annotations

import datetime
from dataclasses import dataclass, field

import pgpubsub_sql


@dataclass
class Place:
    name: str
    position: tuple[float, float] | None = None


@dataclass
class Job(pgpubsub_sql.Channel):
    """Durable. What its listener does, the mood says."""

    number: int
    mood: str = "good"
    lock_notifications = True


@dataclass
class Step(pgpubsub_sql.Channel):
    """Durable, in order for each account, and kept for a week."""

    account: str | None
    number: int
    mood: str = "good"
    lock_notifications = True
    keep = datetime.timedelta(days=7)
    ordering_key = "account"
    retry = pgpubsub_sql.Retry(max_attempts=3, delay=0.01, factor=1, jitter=0)


@dataclass
class Load(pgpubsub_sql.Channel):
    """Durable, and handled in lists."""

    number: int
    mood: str = "good"
    lock_notifications = True


@dataclass
class Shout(pgpubsub_sql.Channel):
    """Ephemeral, with types that are nested and optional."""

    number: int
    mood: str = "good"
    at: datetime.datetime | None = None
    places: list[Place] = field(default_factory=list)


@dataclass
class ItemChannel(pgpubsub_sql.TriggerChannel):
    """Durable, with several listeners."""

    model = "app.Item"
    lock_notifications = True


@dataclass
class ItemNews(pgpubsub_sql.TriggerChannel):
    """Ephemeral, on the same table."""

    model = "app.Item"
    channel_name = 'item "news" äöü'


@dataclass
class UserChannel(pgpubsub_sql.TriggerChannel):
    """Durable, on a model of somebody else's app."""

    model = "auth.User"
    lock_notifications = True
