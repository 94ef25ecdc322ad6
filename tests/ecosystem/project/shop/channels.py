"""A trigger channel and a plain one, durable and ephemeral."""

from dataclasses import dataclass

import pgpubsub_sql
from shop.models import Item


@dataclass
class Order(pgpubsub_sql.Channel):
    number: int
    mood: str = "good"
    lock_notifications = True
    retry = pgpubsub_sql.Retry(max_attempts=3, delay=0.2, factor=1)


@dataclass
class Rumour(pgpubsub_sql.Channel):
    number: int


@dataclass
class ItemChannel(pgpubsub_sql.TriggerChannel):
    model = Item
    lock_notifications = True


@dataclass
class ItemNews(pgpubsub_sql.TriggerChannel):
    model = Item
