"""What the office does."""

import pgpubsub_sql
from example.relay.office.channels import Order
from example.relay.office.models import Taken


@pgpubsub_sql.listener(Order)
def take(customer: str, number: int) -> None:
    """Write it down."""
    Taken.objects.create(customer=customer, number=number)
