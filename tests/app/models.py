"""Something to watch, and a ledger of what listeners were called with."""

import os

from django.db import models


class Item(models.Model):
    name = models.TextField()
    number = models.IntegerField(default=0)
    amount = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    data = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name


class Entry(models.Model):
    """One call of one listener."""

    listener = models.TextField()
    data = models.JSONField(default=dict)
    pid = models.IntegerField(default=os.getpid)

    def __str__(self) -> str:
        return f"{self.listener} {self.data}"
