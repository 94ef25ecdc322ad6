"""Two books: what was written, and what was handled. And the table whose changes are events.

An event is named by its writer and a number that this writer uses once. Nothing is unique, on
purpose: what is handled twice must be seen twice.
"""

from __future__ import annotations

from django.db import models


class Named(models.Model):
    """What says which event it is about."""

    writer = models.IntegerField()
    number = models.IntegerField()

    class Meta:
        abstract = True
        app_label = "torture"

    def __str__(self) -> str:
        return f"{self.writer}/{self.number}"


class Row(Named):
    """An INSERT into it, and an UPDATE that gives it another number, are events."""

    key = models.TextField()
    mood = models.TextField()
    failures = models.IntegerField()

    class Meta(Named.Meta):
        abstract = False


class Written(Named):
    """Entered by the writer in the transaction of the event: so the database itself knows whether
    it was committed, even where the connection was lost at COMMIT."""

    channel = models.TextField()
    kind = models.TextField()
    """The kind of writer."""
    is_to_park = models.BooleanField(default=False)
    """True for what nobody can handle: no listener can be called with it, or it kills whoever
    tries. It is to be parked."""
    is_certain = models.BooleanField(default=True)
    """False if the subscription came or went while it was written: it may be handled, once."""

    class Meta(Named.Meta):
        abstract = False


class Overheard(Named):
    """Entered by the listener of the ephemeral channel, in every worker that is there."""

    process = models.IntegerField()

    class Meta(Named.Meta):
        abstract = False


class Dirt(Named):
    """Entered by a listener that finds what another message should have taken with it."""

    what = models.TextField()

    class Meta(Named.Meta):
        abstract = False


class Name(models.Model):
    """A name that a subscription has got. Entered in the transaction that gives it."""

    name = models.TextField(primary_key=True)
    first = models.TextField()
    """The first name of the same subscription, by which the books know it."""

    class Meta:
        app_label = "torture"

    def __str__(self) -> str:
        return self.name


class Handled(Named):
    """Entered by the listener in the transaction of the message: both happen, or neither does."""

    channel = models.TextField()
    notification = models.BigIntegerField()
    key = models.TextField(null=True)
    """Its ordering key; None where the channel promises no order."""
    attempts = models.IntegerField()
    """Those that failed before."""

    class Meta(Named.Meta):
        abstract = False
