"""What the office receives."""

from dataclasses import dataclass

import pgpubsub_sql


@dataclass
class Order(pgpubsub_sql.Channel):
    """As the shop declares it."""

    customer: str
    number: int
    lock_notifications = True
    ordering_key = "customer"
    channel_name = "shop.Order"
    received_from = "nats"
