"""The stored notifications, and what was too long for a NOTIFY."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Func
from django.db.models.functions import Now

if TYPE_CHECKING:
    from pgpubsub_sql.channels import BaseChannel


class NotificationQuerySet(models.QuerySet["Notification"]):
    """The states of a notification, each derived from ``available_at`` alone."""

    def ready(self) -> NotificationQuerySet:
        """Those a worker would take now."""
        return self.filter(available_at__lte=Now())

    def waiting(self) -> NotificationQuerySet:
        """Those whose time is yet to come: delayed, or to be retried."""
        return self.filter(available_at__gt=Now())

    def parked(self) -> NotificationQuerySet:
        """Those nobody tries until somebody replays them."""
        return self.filter(available_at=None)


class Notification(models.Model):
    """A message of a durable channel, waiting to be handled exactly once."""

    id = models.BigAutoField(primary_key=True)
    channel = models.CharField(max_length=63)
    """Name of the channel in PostgreSQL."""
    payload = models.JSONField()
    """What travels, as on the wire."""
    created_at = models.DateTimeField(db_default=Func(function="clock_timestamp"))
    """When it was sent."""
    available_at = models.DateTimeField(
        db_default=Func(function="clock_timestamp"), null=True, blank=True
    )
    """When it may be handled; None while parked."""
    expires_at = models.DateTimeField(null=True, blank=True)
    """When it stops being of interest; None for never."""
    attempts = models.IntegerField(db_default=0)
    """Times that handling it has failed."""
    last_error = models.TextField(db_default="", blank=True)
    """Traceback of the last failure."""
    key = models.TextField(null=True, blank=True)
    """Messages of an equal key are handled in order."""
    alone = models.BooleanField(db_default=False)
    """Whether it is handled in a transaction of its own, as it has undone a batch before."""

    objects = NotificationQuerySet.as_manager()

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        ordering = ("id",)
        indexes = (
            models.Index(
                fields=["channel", "available_at", "id"],
                name="pgpubsub_sql_available",
                condition=models.Q(available_at__isnull=False),
            ),
            models.Index(
                fields=["channel", "key", "id"],
                name="pgpubsub_sql_key",
                condition=models.Q(key__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.channel} #{self.pk}"

    @classmethod
    def from_channel(cls, channel: type[BaseChannel]) -> NotificationQuerySet:
        """Return the stored notifications of *channel*."""
        return cls.objects.filter(channel=channel.postgres_name())


class LongPayload(models.Model):
    """A message of an ephemeral channel that exceeds the 7,999 bytes of a NOTIFY."""

    id = models.BigAutoField(primary_key=True)
    payload = models.JSONField()
    """The whole message."""
    expires_at = models.DateTimeField(db_index=True)
    """When workers sweep it."""

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"

    def __str__(self) -> str:
        return f"long payload #{self.pk}"
