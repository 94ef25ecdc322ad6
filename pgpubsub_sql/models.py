"""The models: stored notifications, history, what takes long, and long payloads of NOTIFYs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db import connections, models, transaction
from django.db.models import Func, Subquery
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext_lazy as _

from pgpubsub_sql.channels import declared_channels, notified_names
from pgpubsub_sql.django_internals import LoadedMigrations, applied_migration, for_write
from pgpubsub_sql.handled import Handled, Outcome
from pgpubsub_sql.keeping import is_kept, keep_taken, keeping
from pgpubsub_sql.payloads.stored import PayloadDecoder
from pgpubsub_sql.sql import query, render
from pgpubsub_sql.sql.own_tables import FIRST, MAX_REASON, PUBLISHED_AGAIN, RELAY

if TYPE_CHECKING:
    from pgpubsub_sql.channels import BaseChannel


__all__ = [
    "Channel",
    "Handled",
    "InFlight",
    "Inbox",
    "LongPayload",
    "Notification",
    "NotificationQuerySet",
    "Outcome",
    "Position",
    "State",
]

NUMBER = Coalesce("message", "id")
"""What the copies of a message share, and what orders messages: a later copy has a higher id."""

_KEEP_CHOSEN = render(
    "queries/keep_chosen",
    kept=keep_taken(
        is_unusual="true", outcomes="array_agg('discarded'::text)", part_of_bucket="id"
    ),
)

BATCH = 1000
"""Notifications changed in one transaction."""

FAILED = models.Q(available_at__isnull=True) | models.Q(failed_at__isnull=False)
"""Those whose last attempt failed, and all that are parked."""

Progress: TypeAlias = Callable[[int], object]
"""Called with the number of notifications that are done."""

Action: TypeAlias = "Callable[[NotificationQuerySet], list[str]]"
"""Changes or deletes notifications, and returns the channels whose workers to notify."""


class State(models.TextChoices):
    """The state of a stored notification. The query ``state`` in ``status.sql`` determines it."""

    READY = "ready"
    """Due; the next free worker handles it."""
    IN_FLIGHT = "in_flight"
    """A worker is handling it, or another session has locked it."""
    DELAYED = "delayed"
    """Sent with a delay that has not passed."""
    RETRYING = "retrying"
    """Failed; waiting for its next attempt."""
    PARKED = "parked"
    """Failed for good; no worker takes it until somebody replays it."""


class NotificationQuerySet(models.QuerySet["Notification"]):
    """Notifications by state, and actions on them."""

    def with_state(self) -> NotificationQuerySet:
        """Annotate each with its ``state``, a :class:`State`."""
        return self.annotate(state=_state())

    def in_state(self, *states: State) -> NotificationQuerySet:
        """Return those in one of *states*."""
        return self.alias(state=_state()).filter(state__in=states)

    def ready(self) -> NotificationQuerySet:
        """Return those that a worker would take now."""
        # Here and below: an index finds them by the filter, and the state excludes those in flight.
        return self.filter(available_at__lte=Now()).in_state(State.READY)

    def waiting(self) -> NotificationQuerySet:
        """Return those that are delayed or will be retried."""
        return self.filter(available_at__gt=Now()).in_state(State.DELAYED, State.RETRYING)

    def parked(self) -> NotificationQuerySet:
        """Return those that no worker takes until somebody replays them."""
        return self.filter(available_at=None).in_state(State.PARKED)

    def retrying(self) -> NotificationQuerySet:
        """Return those that have failed and wait for their next attempt."""
        return self.filter(FAILED, available_at__gt=Now()).in_state(State.RETRYING)

    def failed(self) -> NotificationQuerySet:
        """Return those whose last attempt failed, and all that are parked."""
        return self.filter(FAILED)

    def before_migration(self, app: str, name: str) -> NotificationQuerySet:
        """Return those that were sent before a migration was applied: all, if it never was.

        Raises :class:`LookupError` if there is no such migration.
        """
        found = applied_migration(connections[self.db], (app, name))
        if found is not None:
            # The server compares, as it knows the time zone of naive times.
            return self.filter(created_at__lt=Subquery(found.values("applied")[:1]))
        if (app, name) in LoadedMigrations.load().on_disk:
            return self.all()
        raise LookupError(f"The app {app!r} has no migration {name!r}.")

    def replay(self, *, progress: Progress | None = None) -> int:
        """Make these ready, as if they had never been tried, and return their number.

        ::

            Notification.from_channel(AuthorChannel).parked().replay()
        """
        return self._in_batches(_replay, progress)

    def retry(self, *, progress: Progress | None = None) -> int:
        """Make these ready, with the attempts that they have left, and return their number."""
        return self._in_batches(_retry, progress)

    def discard(self, *, progress: Progress | None = None) -> int:
        """Delete these unhandled, and return their number."""
        return self._in_batches(_discard, progress)

    def move(self, channel: type[BaseChannel], *, progress: Progress | None = None) -> int:
        """Make these messages of *channel*, as after renaming it, and return their number."""
        name = channel.postgres_name()
        return self.exclude(channel=name)._in_batches(partial(_move, name), progress)

    def move_to(self, subscription: str, *, progress: Progress | None = None) -> int:
        """Make these messages of another *subscription* of their channel; return their number."""
        rows = self.exclude(subscription=subscription)
        return rows._in_batches(partial(_move_to, subscription), progress)

    def _in_batches(self, action: Action, progress: Progress | None) -> int:
        """Run *action* on these, a thousand per transaction, and return their number.

        Messages in flight are locked by their worker, and skipped. *progress* is called with the
        number that is done.
        """
        using = for_write(self)
        changed, last = 0, FIRST
        while True:
            with transaction.atomic(using=using):
                rows = self.filter(pk__gt=last).order_by("pk").select_for_update(skip_locked=True)
                ids = list(rows.values_list("pk", flat=True)[:BATCH])
                if not ids:
                    return changed
                changed_channels = action(self.model.objects.using(using).filter(pk__in=ids))
                with connections[using].cursor() as cursor:
                    cursor.execute(query("ring"), {"channels": notified_names(changed_channels)})
            changed, last = changed + len(ids), ids[-1]
            if progress:
                progress(changed)


def _state() -> RawSQL:
    return RawSQL(query("state"), (), output_field=models.CharField())  # noqa: S611 (no value in it)


def _replay(rows: NotificationQuerySet) -> list[str]:
    again = models.When(reason=PUBLISHED_AGAIN, then=models.Value(PUBLISHED_AGAIN))
    reason = models.Case(again, default=models.Value(""))
    untried = {"attempts": 0, "unreadable": 0, "last_error": "", "failed_at": None}
    return _make_ready(rows, reason=reason, **untried)


def _retry(rows: NotificationQuerySet) -> list[str]:
    return _make_ready(rows)


def _make_ready(rows: NotificationQuerySet, **values: Any) -> list[str]:
    rows.update(available_at=Func(function="clock_timestamp"), **values)
    return list(rows.order_by("channel").values_list("channel", flat=True).distinct())


def _discard(rows: NotificationQuerySet) -> list[str]:
    kept = {one.postgres_name(): one for one in declared_channels() if is_kept(one)}
    for name in rows.order_by("channel").values_list("channel", flat=True).distinct():
        if name in kept:
            ids = list(rows.filter(channel=name).values_list("pk", flat=True))
            values = {"ids": ids, "channel": name, **keeping(kept[name])}
            with connections[rows.db].cursor() as cursor:
                cursor.execute(_KEEP_CHOSEN, values)
    rows.delete()
    return []


def _move(name: str, rows: NotificationQuerySet) -> list[str]:
    rows.update(channel=name)
    return [name]


def _move_to(subscription: str, rows: NotificationQuerySet) -> list[str]:
    rows.update(subscription=subscription)
    return list(rows.order_by("channel").values_list("channel", flat=True).distinct())


class Notification(models.Model):
    """A message of a durable channel that is still to be handled, exactly once."""

    id = models.BigAutoField(primary_key=True)
    channel = models.CharField(max_length=63)
    """Name of the channel in PostgreSQL."""
    subscription = models.CharField(max_length=63, db_default="", blank=True)
    """Name of the subscription that it is stored for; empty for listeners without one."""
    message = models.BigIntegerField(null=True, blank=True)
    """Number that the copies of a message share, one for each subscription, in the order in which
    messages were sent. None stands for the id."""
    payload = models.JSONField(decoder=PayloadDecoder)
    """The message as it was sent."""
    created_at = models.DateTimeField(db_default=Func(function="clock_timestamp"))
    """When it was sent."""
    available_at = models.DateTimeField(
        db_default=Func(function="clock_timestamp"), null=True, blank=True
    )
    """When it may be handled; None while it is parked."""
    expires_at = models.DateTimeField(null=True, blank=True)
    """When it expires; None for never."""
    attempts = models.IntegerField(db_default=0)
    """Number of failed attempts to handle it."""
    unreadable = models.IntegerField(db_default=0)
    """Number of times that a worker could not read it, because its code declares other fields."""
    last_error = models.TextField(db_default="", blank=True)
    """Traceback of the last failure."""
    reason = models.CharField(max_length=MAX_REASON, db_default="", blank=True)
    """Class of the last failure's exception, such as ``smtplib.SMTPServerDisconnected``."""
    failed_at = models.DateTimeField(null=True, blank=True)
    """When it failed last; None if it never did, or was replayed since."""
    key = models.TextField(null=True, blank=True)
    """Ordering key: messages with equal keys are handled in order."""
    alone = models.BooleanField(db_default=False)
    """Whether it is handled in a transaction of its own, because it has undone a batch before."""

    objects = NotificationQuerySet.as_manager()

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ("id",)
        default_permissions = ("view",)
        permissions = (
            ("view_payload", "Can view payload, context and error of messages"),
            ("replay", "Can replay and retry messages"),
            ("discard", "Can discard messages"),
        )
        indexes = (
            models.Index(
                fields=["channel", "subscription", "alone", "available_at", "id"],
                name="pgpubsub_sql_available",
                condition=models.Q(available_at__isnull=False),
            ),
            models.Index(
                "channel",
                "subscription",
                "key",
                NUMBER,
                name="pgpubsub_sql_key",
                condition=models.Q(key__isnull=False, available_at__isnull=False),
            ),
            models.Index(
                fields=["channel", "subscription", "id"],
                include=["available_at", "reason", "failed_at", "attempts"],
                name="pgpubsub_sql_failed",
                condition=FAILED,
            ),
            models.Index(
                "channel",
                NUMBER,
                name="pgpubsub_sql_outbox",
                condition=models.Q(available_at__isnull=False, subscription=RELAY),
            ),
        )

    def __str__(self) -> str:
        return f"{self.channel} #{self.pk}"

    @classmethod
    def from_channel(cls, channel: type[BaseChannel]) -> NotificationQuerySet:
        """Return the stored notifications of *channel*."""
        return cls.objects.filter(channel=channel.postgres_name())


class Channel(Notification):
    """Gives the admin a page about channels, and a permission to see it."""

    class Meta:
        proxy = True
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        verbose_name = _("channel")
        verbose_name_plural = _("channels")
        default_permissions = ("view",)
        permissions = (("pause", "Can pause and resume channels"),)


class InFlight(models.Model):
    """What a worker has been handling for more than a second.

    It counts only while the session is connected that has written it.
    """

    id = models.BigAutoField(primary_key=True)
    session = models.IntegerField()
    """Process of the server, of the session that has written this."""
    host = models.TextField()
    """Name of the worker's machine."""
    process = models.IntegerField()
    """Process id of the worker there."""
    channel = models.CharField(max_length=63)
    """Name of the channel in PostgreSQL."""
    message = models.BigIntegerField(null=True)
    """Id of the notification; None for what is not stored."""
    listener = models.TextField()
    """Dotted path of the listener; empty if none has been called yet."""
    since = models.DateTimeField()
    """When the worker began with it."""

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.listener} on {self.host} ({self.process})"


class Position(models.Model):
    """Where this database stands in a stream of the relay."""

    stream = models.TextField(primary_key=True)
    """Name of the stream on the broker."""
    created = models.TextField()
    """When the stream was made, as the broker writes it."""
    sequence = models.BigIntegerField()
    """Number of the last message that was stored here."""
    message_id = models.TextField(null=True, blank=True)
    """Its id; None if it had none, or none was stored yet."""
    problem = models.TextField(db_default="", blank=True)
    """Why the stream is not read any further; empty if it is."""
    moved_at = models.DateTimeField(db_default=Func(function="clock_timestamp"))
    """When that message was stored."""

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        default_permissions = ()

    def __str__(self) -> str:
        return self.stream


class Inbox(models.Model):
    """A message that was received by the relay, and is not to be stored again."""

    id = models.UUIDField(primary_key=True)
    """Digest of the origin, the channel and the id of the message, after the time that the id
    begins with if it is a UUID of version 7."""
    arrived_at = models.DateTimeField(db_default=Func(function="clock_timestamp"))
    """When it was stored."""

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        default_permissions = ()
        indexes = (models.Index(fields=["arrived_at"], name="pgpubsub_sql_arrived"),)

    def __str__(self) -> str:
        return str(self.id)


class LongPayload(models.Model):
    """A message of an ephemeral channel that exceeds the 7,999 bytes of a NOTIFY."""

    id = models.BigAutoField(primary_key=True)
    payload = models.JSONField(decoder=PayloadDecoder)
    """The whole message."""
    expires_at = models.DateTimeField(db_index=True)
    """When workers may delete it."""

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"

    def __str__(self) -> str:
        return f"long payload #{self.pk}"
