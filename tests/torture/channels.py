"""What travels: by itself or with a row, in order or not. All but one of them durable."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from django.db.models import Q

import pgpubsub_sql
from pgpubsub_sql.worker import vacuuming
from tests.torture.models import Row

vacuuming.VACUUM_MESSAGES = 200  # workers do not live long enough for more

FEW_ATTEMPTS = 3

NAMES = tuple(f"s{number:02}" for number in range(24))
"""Of the subscriptions of :class:`Changing`. None is given twice."""

WEEK = datetime.timedelta(days=7)

FILLED = ("h0", "h1")
"""Of subscriptions that come later, and begin with the history."""

OFTEN = pgpubsub_sql.Retry(max_attempts=10_000, delay=0.05, factor=2, longest=0.5)
"""Nothing is parked by chance: calamities are charged to whatever message is in flight."""


@dataclass
class Message(pgpubsub_sql.Channel):
    """In batches, in no order."""

    writer: int
    number: int
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN
    keep = WEEK


@dataclass
class Alone(pgpubsub_sql.Channel):
    """One transaction a message. From strangers none is accepted."""

    writer: int
    number: int
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN
    batch_size = 1
    accept_raw_notify = False


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
    keep = WEEK
    ordering_key = "key"


@dataclass
class Bundle(pgpubsub_sql.Channel):
    """In lists, in no order."""

    writer: int
    number: int
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN


@dataclass
class OrderedBundle(pgpubsub_sql.Channel):
    """In lists, in order for each key."""

    writer: int
    number: int
    key: str
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN
    keep = WEEK
    ordering_key = "key"


@dataclass
class Shared(pgpubsub_sql.Channel):
    """For two subscriptions, in order for each key in each of them."""

    writer: int
    number: int
    key: str
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN
    keep = WEEK
    ordering_key = "key"


@dataclass
class Changing(pgpubsub_sql.Channel):
    """For subscriptions that come, go, and are renamed meanwhile. The history has it all."""

    writer: int
    number: int
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = OFTEN
    keep = WEEK


@dataclass
class Brittle(pgpubsub_sql.Channel):
    """With few attempts: what kills whoever handles it is parked soon, and its neighbours are
    handled."""

    writer: int
    number: int
    mood: str = "good"
    failures: int = 0
    lock_notifications = True
    retry = pgpubsub_sql.Retry(max_attempts=FEW_ATTEMPTS, delay=0.05, factor=2, longest=0.5)


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


@dataclass
class LiveRows(pgpubsub_sql.TriggerChannel):
    """Some of the same rows, ephemeral: every worker that is there handles them."""

    model = Row
    condition = Q(new__key="free 1")


CHANNELS = (
    *(Message, Alone, Ordered, Bundle, OrderedBundle, Shared, Changing, Brittle, Rows, OrderedRows),
    LiveRows,
)
