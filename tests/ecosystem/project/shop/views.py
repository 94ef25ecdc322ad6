"""What a user of the project asks for."""

from django.db import transaction
from django.http import HttpResponse

from pgpubsub_sql import notify
from shop.channels import Order, Rumour
from shop.models import Item


def buy(request, number, mood):
    """Send by the ORM, and by both forms of notify()."""
    with transaction.atomic():
        Item.objects.create(name=str(number))
        notify(Order(number=number, mood=mood))
        notify(Rumour, number=number)
    return HttpResponse("<html><body>Thank you.</body></html>")
