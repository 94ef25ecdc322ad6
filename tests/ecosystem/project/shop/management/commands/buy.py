"""``manage.py buy``: requests to the project, through all of its middleware."""

from django.core.management.base import BaseCommand
from django.test import Client


class Command(BaseCommand):
    """Ask for what is written as number:mood."""

    def add_arguments(self, parser):
        parser.add_argument("orders", nargs="+")

    def handle(self, orders, **options):
        for number, mood in (order.split(":") for order in orders):
            response = Client().get(f"/buy/{number}/{mood}")
            assert response.status_code == 200, response.content
