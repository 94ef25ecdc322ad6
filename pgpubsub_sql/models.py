"""The stored notifications, and what was too long for a NOTIFY."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db import connections, models, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Func, Subquery
from django.db.models.functions import Now

from pgpubsub_sql.sql import query

if TYPE_CHECKING:
    from pgpubsub_sql.channels import BaseChannel


BATCH = 1000
"""Notifications changed in one transaction."""

Progress: TypeAlias = Callable[[int], object]
"""Is told how many are done."""

Change: TypeAlias = "Callable[[NotificationQuerySet], list[str]]"
"""Changes notifications, and returns the channels whose workers should look."""


class NotificationQuerySet(models.QuerySet["Notification"]):
    """Notifications by state, which ``available_at`` alone decides, and what is done to them."""

    def ready(self) -> NotificationQuerySet:
        """Those a worker would take now."""
        return self.filter(available_at__lte=Now())

    def waiting(self) -> NotificationQuerySet:
        """Those whose time is yet to come: delayed, or to be retried."""
        return self.filter(available_at__gt=Now())

    def parked(self) -> NotificationQuerySet:
        """Those nobody tries until somebody replays them."""
        return self.filter(available_at=None)

    def retrying(self) -> NotificationQuerySet:
        """Those of :meth:`waiting` that have failed and wait for their next attempt."""
        return self.waiting().exclude(last_error="")

    def failed(self) -> NotificationQuerySet:
        """Those whose last attempt failed, to be tried again or parked, and all that is parked."""
        return self.filter(models.Q(available_at=None) | ~models.Q(last_error=""))

    def before_migration(self, app: str, name: str) -> NotificationQuerySet:
        """Those that were sent before a migration was applied: all of them, if it never was.

        Raises :class:`LookupError` if there is no such migration.
        """
        recorder = MigrationRecorder(connections[self.db])
        if (app, name) in recorder.applied_migrations():
            found = recorder.migration_qs.filter(app=app, name=name)
            # Compared by the server, which knows of no naive time.
            return self.filter(created_at__lt=Subquery(found.values("applied")[:1]))
        if (app, name) in MigrationLoader(None).disk_migrations:
            return self.all()
        raise LookupError(f"The app {app!r} has no migration {name!r}.")

    def replay(self, *, progress: Progress | None = None) -> int:
        """Have these handled now, with all their attempts before them; return how many.

        ::

            Notification.from_channel(AuthorChannel).parked().replay()
        """
        return self._in_batches(_replay, progress)

    def retry(self, *, progress: Progress | None = None) -> int:
        """Have these handled now, with the attempts before them that they have left; return how
        many."""
        return self._in_batches(_retry, progress)

    def discard(self, *, progress: Progress | None = None) -> int:
        """Forget these, without handling them; return how many."""
        return self._in_batches(_discard, progress)

    def move(self, channel: type[BaseChannel], *, progress: Progress | None = None) -> int:
        """Make these messages of *channel*, as after renaming it; return how many."""
        name = channel.postgres_name()
        return self.exclude(channel=name)._in_batches(partial(_move, name), progress)

    def _in_batches(self, change: Change, progress: Progress | None) -> int:
        """Change them, a thousand a transaction unless one is open; return how many.

        What a worker has in hand is locked, and left alone. *progress* is told how many are done.
        """
        self._for_write = True  # as Django's own verbs: routers have a say in where
        changed, last = 0, 0
        while True:
            with transaction.atomic(using=self.db):
                rows = self.filter(pk__gt=last).order_by("pk").select_for_update(skip_locked=True)
                ids = list(rows.values_list("pk", flat=True)[:BATCH])
                if not ids:
                    return changed
                rung = change(self.model.objects.using(self.db).filter(pk__in=ids))
                with connections[self.db].cursor() as cursor:
                    cursor.execute(query("ring"), {"channels": rung})
            changed, last = changed + len(ids), ids[-1]
            if progress:
                progress(changed)


def _replay(rows: NotificationQuerySet) -> list[str]:
    rows.update(attempts=0, unreadable=0)
    return _retry(rows)


def _retry(rows: NotificationQuerySet) -> list[str]:
    rows.update(available_at=Func(function="clock_timestamp"))
    return list(rows.order_by("channel").values_list("channel", flat=True).distinct())


def _discard(rows: NotificationQuerySet) -> list[str]:
    rows.delete()
    return []


def _move(name: str, rows: NotificationQuerySet) -> list[str]:
    rows.update(channel=name)
    return [name]


class PayloadDecoder(json.JSONDecoder):
    """Reads what anybody may have stored: of what Python cannot read, nested without end or with
    numbers of thousands of digits, remains ``{"$raw": text}``, so that the row can be looked at."""

    def decode(self, s: str, *args: Any) -> Any:
        """Return the value of the JSON *s*."""
        try:
            return super().decode(s, *args)
        except (RecursionError, ValueError):
            return {"$raw": s}


class Notification(models.Model):
    """A message of a durable channel, waiting to be handled exactly once."""

    id = models.BigAutoField(primary_key=True)
    channel = models.CharField(max_length=63)
    """Name of the channel in PostgreSQL."""
    payload = models.JSONField(decoder=PayloadDecoder)
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
    unreadable = models.IntegerField(db_default=0)
    """Times that a worker could not read it, whose version of the code declares other fields."""
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
                fields=["channel", "alone", "available_at", "id"],
                name="pgpubsub_sql_available",
                condition=models.Q(available_at__isnull=False),
            ),
            models.Index(
                fields=["channel", "key", "id"],
                name="pgpubsub_sql_key",
                condition=models.Q(key__isnull=False, available_at__isnull=False),
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
    payload = models.JSONField(decoder=PayloadDecoder)
    """The whole message."""
    expires_at = models.DateTimeField(db_index=True)
    """When workers sweep it."""

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"

    def __str__(self) -> str:
        return f"long payload #{self.pk}"
