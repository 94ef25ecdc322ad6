"""``manage.py place``: customers place orders until SIGTERM."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Max

from example.demo.interruption import Interruption
from example.relay.shop.channels import Order
from example.relay.shop.models import Placed
from pgpubsub_sql import notify_many

CUSTOMERS = 50
AT_ONCE = 10


class Command(BaseCommand):
    """Place orders, each in the transaction that sends it."""

    help = "Place orders until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        """Connect again after each loss; what was committed, the table says."""
        with Interruption() as interruption:
            while not interruption.noted:
                try:
                    self._shop(interruption)
                except (DatabaseError, InterfaceError):
                    connection.close()
                    time.sleep(0.1)

    @staticmethod
    def _shop(interruption: Interruption) -> None:
        last: dict[str, int] = defaultdict(int)
        last.update(Placed.objects.values_list("customer").annotate(Max("number")))
        while not interruption.noted:
            orders = []
            for _ in range(AT_ONCE):
                customer = f"customer {random.randrange(CUSTOMERS)}"
                last[customer] += 1
                orders.append(Order(customer, last[customer]))
            with transaction.atomic():
                Placed.objects.bulk_create(
                    Placed(customer=one.customer, number=one.number) for one in orders
                )
                notify_many(orders)
            time.sleep(0.005)
