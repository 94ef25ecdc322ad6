"""The history: messages that were handled, and sending them again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from pgpubsub_sql.channels import notified_names
from pgpubsub_sql.django_internals import for_write
from pgpubsub_sql.payloads.stored import PayloadDecoder
from pgpubsub_sql.sql import part, query, render
from pgpubsub_sql.sql.own_tables import BUCKET_BITS, FIRST, PUBLISHED_AGAIN, RELAY

if TYPE_CHECKING:
    from pgpubsub_sql.channels import BaseChannel

PAGE = 1000
"""Messages sent again in one transaction."""


class Outcome(models.TextChoices):
    """What has become of a message that is kept."""

    HANDLED = "handled", _("handled")
    """Its listeners were called, and succeeded; or none of them wanted it."""
    DISCARDED = "discarded", _("discarded")
    """Its listener, or somebody with ``discard``, has discarded it."""
    EXPIRED = "expired", _("expired")
    """It had expired before a worker took it."""


class HandledQuerySet(models.QuerySet["Handled"]):
    """Messages of the history, and sending them again."""

    def count_again(self) -> int:
        """Return how many messages :meth:`replay` would send: these, each once, unless expired."""
        numbers = self._unexpired().order_by()
        return int(numbers.aggregate(count=models.Count("message", distinct=True))["count"])

    def with_ids(self, ids: Iterable[int]) -> HandledQuerySet:
        """Return those of these that have one of these *ids*, found by an index."""
        chosen = set(ids)
        return self.filter(pk__in=chosen, id_bucket__in={one >> BUCKET_BITS for one in chosen})

    def with_outcome(self, outcome: str) -> HandledQuerySet:
        """Return those of these of which this has become; rare ones are found by an index."""
        rows = self.filter(outcome=outcome)
        return rows if outcome == Outcome.HANDLED else rows.filter(is_unusual=True)

    def newest(self) -> HandledQuerySet:
        """Return these, what was handled last first."""
        return self.order_by("-handled_at", "-id")

    def published(self) -> HandledQuerySet:
        """Return those that the relay published, each as it was published first.

        What was published again is kept again, with a reason. Receivers count from when an id came
        first.
        """
        rows = self.filter(subscription=RELAY, outcome=Outcome.HANDLED)
        return rows.exclude(reason=PUBLISHED_AGAIN)

    def replay(
        self,
        *,
        subscription: str | None = None,
        rate: float | None = None,
        after: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Send these messages again, in the order in which they were sent; return their number.

        ::

            Handled.from_channel(AuthorChannel).filter(handled_at__gte=monday).replay()

        Each is sent once, however many subscriptions it was kept for, unless it has expired since.
        It becomes a new message, of all subscriptions of its channel or of *subscription* alone,
        and has not been tried yet. *rate* is how many are sent in a second at most.

        They are sent a thousand per transaction. After each, *progress* is called with how many
        were sent and with the number of the last one. To go on after an interruption, pass that as
        *after*, and select the same messages: those that were sent again are kept, too.

        Raises :class:`LookupError` if a channel has no such subscription.
        """
        return self._send("send_again", subscription, rate, after, progress)

    def publish_again(
        self,
        *,
        rate: float | None = None,
        after: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Have the relay publish these messages again, under the ids that they had.

        Receivers store those that they lack, and drop the others, as long as they remember their
        ids: for the publisher's ``max_age`` and a day. Only what was :meth:`published` counts,
        whatever else is selected. For the arguments, the result and errors see :meth:`replay`.
        """
        return self.published()._send("publish_again", RELAY, rate, after, progress)

    def _send(
        self,
        how: str,
        subscription: str | None,
        rate: float | None,
        after: int | None,
        progress: Callable[[int, int], object] | None,
    ) -> int:
        """Execute the query *how* for each page of these, and return their number."""
        using, started, sent = for_write(self), time.monotonic(), 0
        for page in self._pages(after, PAGE if rate is None else max(1, min(PAGE, int(rate)))):
            if rate is not None:
                time.sleep(max(0.0, started + sent / rate - time.monotonic()))
            with transaction.atomic(using=using):
                _send_again(how, using, page, subscription)
            sent += len(page)
            if progress:
                progress(sent, page[-1][0])
        return sent

    def _unexpired(self) -> HandledQuerySet:
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=Now()))

    def _pages(self, after: int | None, size: int) -> Iterator[list[Kept]]:
        """Yield these, each once and in order, up to the last one that there is now."""
        rows = self._unexpired()
        by_bucket = rows.order_by("bucket").values_list("bucket", flat=True)
        newest = rows.order_by("-bucket", "-message").values_list("message", flat=True).first()
        last, done = newest or 0, FIRST if after is None else after
        while done < last:
            rest = {"bucket__gte": (done + 1) >> BUCKET_BITS, "message__gt": done}
            buckets = list(by_bucket.filter(**rest)[:size])
            if not buckets:
                return
            ahead = rows.filter(**rest, bucket__lte=buckets[-1], message__lte=last)
            # Any copy will do.
            numbers = ahead.order_by("message").distinct("message")
            found = list(numbers.values_list("message", "slot", "batch", "id", "channel"))
            for start in range(0, len(found), size):
                yield found[start : start + size]
            done = (buckets[-1] + 1 << BUCKET_BITS) - 1


Kept = tuple[int, int, int, int, str]
"""Number, slot, batch, id and channel."""


def _send_again(how: str, using: str, page: Sequence[Kept], subscription: str | None) -> None:
    numbers, slots, batches, ids, channels = zip(*page, strict=True)
    values: dict[str, Any] = {
        "numbers": list(numbers),
        "slots": list({*slots}),
        "batches": list({*batches}),
        "batch_of": list(batches),
        "ids": list(ids),
        "subscription": subscription,
        "again": PUBLISHED_AGAIN,
    }
    names = sorted({*channels})
    with connections[using].cursor() as cursor:
        if subscription is not None:
            cursor.execute(query("lacking_subscription"), {**values, "names": names})
            if lacking := cursor.fetchall():
                is_relay = subscription == RELAY
                what = "Set relay = True on it" if is_relay else "Declare a listener of it"
                raise LookupError(
                    f"The channel {lacking[0][0]} has no subscription {subscription!r}, so nothing "
                    f"was sent again. {what}, and run migrate."
                )
        cursor.execute(render(f"queries/{how}", chosen=part("queries/chosen")), values)
        cursor.execute(query("ring"), {"channels": notified_names(names)})


class Handled(models.Model):
    """A message that is done with, of a durable channel with ``keep``.

    It is a row of a view. Workers write a row for a batch, in arrays, in the transaction in which
    they handle it.
    """

    slot = models.SmallIntegerField()
    """Number of the partition."""
    id = models.BigIntegerField(primary_key=True)
    """Id that it had while it was stored to be handled."""
    channel = models.CharField(max_length=63)
    """Name of the channel in PostgreSQL."""
    subscription = models.CharField(max_length=63, blank=True)
    """Name of the subscription that it was stored for; empty for listeners without one."""
    message = models.BigIntegerField()
    """Number that it shares with its copies for other subscriptions, and that orders messages; its
    id if it has no copies."""
    key = models.TextField(null=True, blank=True)
    """Ordering key."""
    payload = models.JSONField(decoder=PayloadDecoder)
    """The message as it was sent."""
    created_at = models.DateTimeField()
    """When it was sent."""
    handled_at = models.DateTimeField()
    """When its batch was claimed; or when it ended, if that had to be corrected: a message of it
    failed, was put back or discarded, or took 10 ms."""
    kept_until = models.DateTimeField()
    """When workers may delete it."""
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    """What has become of it, an :class:`Outcome`."""
    reason = models.TextField(blank=True)
    """Why its listener has discarded it; or that the relay published it again."""
    attempts = models.IntegerField()
    """Number of attempts that had failed before."""
    duration = models.FloatField(null=True, blank=True)
    """Seconds that its listeners took; None if that was less than 0.01, or none was called."""
    expires_at = models.DateTimeField(null=True, blank=True)
    """From when on it is not to be handled; None if it does not expire."""
    batch = models.BigIntegerField()
    """Number of the batch in which it was handled, drawn at random."""
    bucket = models.BigIntegerField()
    """Its message without the last 12 bits, by which an index finds it."""
    id_bucket = models.BigIntegerField()
    """Its id without the last 12 bits, by which an index finds it."""
    is_unusual = models.BooleanField()
    """Whether it, or another message in its row of the history, was discarded or had expired."""

    objects = HandledQuerySet.as_manager()

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        managed = False
        verbose_name = _("kept message")
        verbose_name_plural = _("history")
        ordering = ("bucket", "message", "id")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.channel} #{self.pk}"

    @classmethod
    def from_channel(cls, channel: type[BaseChannel]) -> HandledQuerySet:
        """Return what is kept of *channel*."""
        return cls.objects.filter(channel=channel.postgres_name())
