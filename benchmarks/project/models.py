"""The rows that are watched, and those that handlers write. Peers use the same models."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from django.db import models


class ItemFields(models.Model):
    name = models.TextField()
    number = models.IntegerField(default=0)
    amount = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    data = models.JSONField(default=dict)

    class Meta:
        abstract = True


class Item(ItemFields):
    """Built as Django itself builds instances."""


class KeptItem(ItemFields):
    """Built likewise; what is handled is kept."""


class CustomItem(ItemFields):
    """Built by a ``from_db`` of its own, which has to be called."""

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any]) -> Self:
        return super().from_db(db, field_names, values)


class Event(models.Model):
    """A row that knows when it was written."""

    sent = models.FloatField()


class Entry(models.Model):
    """What the handler of the workload ``insert`` writes."""

    name = models.TextField()
    data = models.JSONField(default=dict)
