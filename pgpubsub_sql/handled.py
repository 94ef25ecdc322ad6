"""The history: messages that were handled, and sending them again."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from pgpubsub_sql.channels import notified_names
from pgpubsub_sql.django_internals import for_write
from pgpubsub_sql.payloads.stored import PayloadDecoder
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.own_tables import RELAY

if TYPE_CHECKING:
    from pgpubsub_sql.channels import BaseChannel

PAGE = 1000
"""Messages sent again in one transaction."""

SPANS = [datetime.timedelta(seconds=4**n) for n in range(13)]
"""Recent times, from a second to half a year, in which the newest messages are looked for."""
SHORTEST = datetime.timedelta(milliseconds=1)
"""How exactly such a time is chosen."""
SURPLUS = 10_000
"""How many messages more than needed it may hold."""


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

    def newest(
        self,
        number: int,
        *,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> HandledQuerySet:
        """Return these, what was handled last first; or only those of a recent time.

        At least *number* of them are returned, if there are so many. Give *since* and *until* if
        these are limited to what was handled at or after, or at or before, such a time.

        The index of times has no order, so all rows of the chosen time are read and sorted. A time
        is chosen that holds enough rows, but not many more: a second, then four seconds, and so on.
        The first one that holds enough holds too many after a pause, and is then shortened.
        """
        rows, until = self.order_by("-handled_at", "-id"), until or timezone.now()
        most, too_short = number + SURPLUS, datetime.timedelta(0)
        for span in _spans(until - since if since else None):
            held = rows._count_from(until - span, most)
            if held >= number:
                break
            too_short = span
        else:
            return rows
        while held == most and span - too_short > SHORTEST:
            middle = (too_short + span) / 2
            count = rows._count_from(until - middle, most)
            if count < number:
                too_short = middle
            else:
                span, held = middle, count
        return rows.filter(handled_at__gte=until - span)

    def _count_from(self, start: datetime.datetime, limit: int) -> int:
        return self.filter(handled_at__gte=start).order_by()[:limit].count()

    def published(self) -> HandledQuerySet:
        """Return those that the relay published, each as it was published first.

        What was published again is kept again. Receivers count from when an id came first.
        """
        of = models.OuterRef
        earlier = self.model.objects.filter(
            channel=of("channel"),
            message=of("message"),
            subscription=RELAY,
            created_at=of("created_at"),
            handled_at__lt=of("handled_at"),
        )
        rows = self.filter(subscription=RELAY, outcome=Outcome.HANDLED)
        return rows.filter(~models.Exists(earlier))

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
        ends = {"first": models.Min("message"), "last": models.Max("message")}
        found = self.order_by().aggregate(**ends)
        first, last = found["first"] or 0, found["last"] or 0
        done = first - 1 if after is None else max(after, first - 1)
        # Any copy will do. If ids were in the order, PostgreSQL 14 would read everything.
        numbers = self._unexpired().order_by("message").distinct("message")
        while done < last:
            rows = numbers.filter(message__gt=done, message__lte=last)
            page = list(rows.values_list("message", "slot", "id", "channel")[:size])
            if not page:
                return
            yield page
            done = page[-1][0]


def _spans(longest: datetime.timedelta | None) -> list[datetime.timedelta]:
    """Return :data:`SPANS`; or those that are shorter than *longest*, and that one."""
    if longest is None:
        return SPANS
    return [*(one for one in SPANS if one < longest), longest]


Kept = tuple[int, int, int, str]
"""Number, slot, id and channel."""


def _send_again(how: str, using: str, page: Sequence[Kept], subscription: str | None) -> None:
    numbers, slots, ids, channels = zip(*page, strict=True)
    values: dict[str, Any] = {
        "slots": list(slots),
        "ids": list(ids),
        "numbers": list(numbers),
        "channels": list(channels),
        "subscription": subscription,
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
        cursor.execute(query(how), values)
        cursor.execute(query("ring"), {"channels": notified_names(names)})


class Handled(models.Model):
    """A message that is done with, of a durable channel with ``keep``.

    Workers write it in the transaction in which they handle the message.
    """

    slot = models.SmallIntegerField()
    """Number of its partition."""
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
    """When a worker took it; or when the batch ended, if it took at least 10 ms itself."""
    kept_until = models.DateTimeField()
    """When workers may delete it."""
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    """What has become of it, an :class:`Outcome`."""
    reason = models.TextField(db_default="", blank=True)
    """Why its listener has discarded it."""
    attempts = models.IntegerField()
    """Number of attempts that had failed before."""
    duration = models.FloatField(null=True, blank=True)
    """Seconds that its listeners took; None if that was less than 0.01, or none was called."""
    expires_at = models.DateTimeField(null=True, blank=True)
    """From when on it is not to be handled; None if it does not expire."""

    objects = HandledQuerySet.as_manager()

    class Meta:
        app_label = "pgpubsub_sql"
        required_db_vendor = "postgresql"
        managed = False
        verbose_name = _("kept message")
        verbose_name_plural = _("history")
        ordering = ("message", "id")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.channel} #{self.pk}"

    @classmethod
    def from_channel(cls, channel: type[BaseChannel]) -> HandledQuerySet:
        """Return what is kept of *channel*."""
        return cls.objects.filter(channel=channel.postgres_name())
