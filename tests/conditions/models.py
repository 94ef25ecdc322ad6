"""A model with a column of each type, and one with the rows of a change as foreign keys."""

from __future__ import annotations

import enum

from django.contrib.postgres.fields import (
    ArrayField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
    HStoreField,
    IntegerRangeField,
)
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


class Colour(models.TextChoices):
    RED = "r"
    GREEN = "g"


class Level(enum.Enum):
    """An enumeration that is not Django's."""

    LOW = 1
    HIGH = 2


class Owner(models.Model):
    name = models.TextField()


class Thing(models.Model):
    kind = models.IntegerField()
    name = models.TextField(null=True)
    code = models.CharField(max_length=20, null=True)
    colour = models.CharField(max_length=1, choices=Colour, null=True)
    number = models.IntegerField(null=True)
    amount = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    ratio = models.FloatField(null=True)
    flag = models.BooleanField(null=True)
    moment = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    hour = models.TimeField(null=True)
    length = models.DurationField(null=True)
    token = models.UUIDField(null=True)
    blob = models.BinaryField(null=True)
    address = models.GenericIPAddressField(null=True)
    data = models.JSONField(null=True)
    encoded = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    tags = ArrayField(models.TextField(null=True), null=True)
    grid = ArrayField(ArrayField(models.IntegerField()), null=True)
    span = IntegerRangeField(null=True)
    amounts = DecimalRangeField(null=True)
    period = DateTimeRangeField(null=True)
    days = DateRangeField(null=True)
    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, null=True)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True)
    old = models.IntegerField(null=True, db_column="größe it's \\ {0} :x")


class Change(models.Model):
    """A change: a condition means what it means as a filter on this model."""

    old = models.ForeignKey(Thing, models.CASCADE, null=True, related_name="+")
    new = models.ForeignKey(Thing, models.CASCADE, null=True, related_name="+")


class Unspeakable(models.Model):
    """Columns that Django cannot query, but other programs can create."""

    dollar = models.IntegerField(db_column="$id")
    percent = models.IntegerField(db_column="100%s")
    doubled = models.IntegerField(db_column="100%%")
    quoted = models.IntegerField(db_column='a"b')
    in_quotes = models.IntegerField(db_column='"In quotes"')
    delimiter = models.IntegerField(db_column="$pgpubsub$")

    class Meta:
        managed = False


class Words(models.Model):
    """Needs extensions, so the tests that find them create its table."""

    folded = models.TextField()
    store = HStoreField(null=True)

    class Meta:
        managed = False
