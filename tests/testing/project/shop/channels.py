from dataclasses import dataclass

import pgpubsub_sql
from shop.models import Order


@dataclass
class OrderChannel(pgpubsub_sql.TriggerChannel):
    model = Order
    lock_notifications = True
    timeout = 5


@dataclass
class Shipped(pgpubsub_sql.Channel):
    name: str
