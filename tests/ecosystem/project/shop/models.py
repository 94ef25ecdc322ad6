"""What is sold, and what listeners have done."""

from django.db import models


class Item(models.Model):
    """Watched by a durable and by an ephemeral channel; its name is a number."""

    name = models.TextField()


class Done(models.Model):
    """Written by a listener; what is there twice was handled twice."""

    listener = models.TextField()
    number = models.IntegerField()
    means = models.TextField()
    """With what it was written: the ORM, a cursor, COPY …"""


class Mended(models.Model):
    """While there is none, messages that are broken fail."""
