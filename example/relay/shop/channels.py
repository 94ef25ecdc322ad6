"""What the shop sends."""

from dataclasses import dataclass

import pgpubsub_sql


@dataclass
class Order(pgpubsub_sql.Channel):
    """The orders of a customer are numbered from 1 up."""

    customer: str
    number: int
    lock_notifications = True
    ordering_key = "customer"
    channel_name = "shop.Order"
    relay = True
