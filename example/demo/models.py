"""The ledger: what the listeners have handled."""

from django.db import models


class Handled(models.Model):
    """One message, handled by one process.

    Nothing here is unique, on purpose: a message that is handled twice must be seen twice.
    """

    channel = models.TextField()
    message = models.TextField()
    """What was said, as ``messages.py`` names it."""
    pid = models.IntegerField()
    """The process that handled it."""

    def __str__(self) -> str:
        return f"{self.channel}: {self.message}"
