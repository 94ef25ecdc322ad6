"""Which messages a page shows or changes: read from its address, and put into a query."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import connections, models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from pgpubsub_sql.inspection import MOST, stored_lanes
from pgpubsub_sql.models import FAILED, NotificationQuerySet
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import columns


class Shown(models.TextChoices):
    """The lists that there are."""

    FAILED = "failed", _("failed: all of them")
    RETRYING = "retrying", _("failed: to be retried")
    PARKED = "parked", _("failed: parked")
    READY = "ready", _("ready")
    WAITING = "waiting", _("waiting: delayed or to be retried")

    @property
    def has_failed(self) -> bool:
        """Whether all of its messages have failed."""
        return self not in (Shown.READY, Shown.WAITING)


CONDITIONS: Mapping[str, models.Q] = {
    Shown.FAILED: FAILED,
    Shown.RETRYING: FAILED & models.Q(failed_at__isnull=False, available_at__gt=Now()),
    Shown.PARKED: FAILED & models.Q(available_at__isnull=True),
    Shown.READY: models.Q(available_at__lte=Now()),
    Shown.WAITING: models.Q(available_at__gt=Now()),
}
"""What each list holds, so that an index finds it."""

ATTEMPTS: Mapping[str, tuple[str, int, int | None]] = {
    "0": ("0", 0, 0),
    "1": ("1", 1, 1),
    "2-4": ("2-4", 2, 4),
    "5-9": ("5-9", 5, 9),
    "10-": ("≥ 10", 10, None),
}
"""Each choice of a number of attempts: in words, and the first and the last of them."""


RECENT: Mapping[str, datetime.timedelta] = {
    "10m": datetime.timedelta(minutes=10),
    "1h": datetime.timedelta(hours=1),
    "1d": datetime.timedelta(days=1),
    "7d": datetime.timedelta(days=7),
}
"""How long ago each choice begins."""


class InvalidSelection(ValueError):
    """A page was asked for something that its links and forms do not have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Messages of one list, narrowed by channel and, where they have failed, by how and when."""

    show: Shown = Shown.FAILED
    channel: str = ""
    subscription: str | None = None
    """None for all; empty for listeners without one."""
    reason: str | None = None
    since: datetime.datetime | None = None
    """Failed then or later."""
    until: datetime.datetime | None = None
    """Failed then or earlier."""
    attempts: str = ""
    as_of: datetime.datetime | None = None
    """Leaves out what has failed since, so that a selection stays as it was looked at."""

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> Selection:
        """Return what *parameters* of an address, or of a form, select.

        Raises :class:`InvalidSelection`.
        """
        try:
            show = Shown(parameters.get("show", Shown.FAILED))
        except ValueError as error:
            raise InvalidSelection(str(error)) from error
        found = cls(
            show=show,
            channel=parameters.get("channel", ""),
            subscription=parameters.get("subscription"),
        )
        return found._narrowed(parameters) if show.has_failed else found

    def _narrowed(self, parameters: Mapping[str, str]) -> Selection:
        attempts = parameters.get("attempts", "")
        if attempts and attempts not in ATTEMPTS:
            raise InvalidSelection(f"{attempts!r} is no number of attempts.")
        return dataclasses.replace(
            self,
            reason=parameters.get("reason"),
            since=_moment(parameters.get("since", "")),
            until=_moment(parameters.get("until", "")),
            attempts=attempts,
            as_of=_moment(parameters.get("as_of", "")),
        )

    def parameters(self) -> dict[str, str]:
        """Return what :meth:`read` reads."""
        found = {
            "show": str(self.show),
            "channel": self.channel,
            "subscription": self.subscription,
            "reason": self.reason,
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
            "attempts": self.attempts,
            "as_of": self.as_of and self.as_of.isoformat(),
        }
        chosen = ("subscription", "reason")  # those may be chosen empty
        return {
            name: str(value)
            for name, value in found.items()
            if value or (name in chosen and value == "")
        }

    def of(self, rows: NotificationQuerySet) -> NotificationQuerySet:
        """Return those of *rows* that are selected."""
        rows = rows.filter(CONDITIONS[self.show])
        if self.as_of:
            rows = rows.filter(models.Q(failed_at=None) | models.Q(failed_at__lte=self.as_of))
        _words, first, last = ATTEMPTS.get(self.attempts, ("", None, None))
        conditions = {
            "channel": self.channel or None,
            "subscription": self.subscription,
            "reason": self.reason,
            "failed_at__gte": self.since,
            "failed_at__lte": self.until,
            "attempts__gte": first,
            "attempts__lte": last,
        }
        return rows.filter(**{name: v for name, v in conditions.items() if v is not None})

    def ids(self, rows: NotificationQuerySet) -> list[int]:
        """Return the ids of the selected *rows*, in order; one more than :data:`MOST` at most."""
        if self.show.has_failed:
            found = (
                self.of(rows).order_by("channel", "subscription", "id").values_list("pk", flat=True)
            )
            return list(found[: MOST + 1])
        lanes = [
            lane
            for lane in stored_lanes(rows.db)
            if self.channel in ("", lane.channel) and self.subscription in (None, lane.subscription)
        ]
        with connections[rows.db].cursor() as cursor:
            values: dict[str, Any] = {**columns(lanes), "limit": MOST + 1}
            cursor.execute(query(f"{self.show}_ids"), values)
            return [pk for (pk,) in cursor.fetchall()]

    def describe(self) -> list[str]:
        """Return what is selected, in words, a condition each."""
        words: dict[Any, Any] = {
            _("State: {}"): Shown(self.show).label,
            _("Channel: {}"): self.channel,
            _("Subscription: {}"): gettext("none")
            if self.subscription == ""
            else self.subscription,
            _("Reason: {}"): gettext("unknown") if self.reason == "" else self.reason,
            _("Failed since {}"): time_in_words(self.since),
            _("Failed until {}"): time_in_words(self.until),
            _("Attempts: {}"): self.attempts and ATTEMPTS[self.attempts][0],
        }
        return [str(format_lazy(text, value)) for text, value in words.items() if value]


def time_in_words(moment: datetime.datetime | None) -> str:
    """Return a time in the time zone of the request; empty for none."""
    if moment is None:
        return ""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return date_format(local, "Y-m-d H:i:s")


def _moment(text: str) -> datetime.datetime | None:
    """Parse a key of :data:`RECENT`, or an ISO 8601 time, which is local without an offset."""
    if not text:
        return None
    if text in RECENT:
        return timezone.now() - RECENT[text]
    try:
        found = parse_datetime(text)
    except ValueError as error:
        raise InvalidSelection(str(error)) from error
    if found is None:
        raise InvalidSelection(f"{text!r} is no time.")
    if timezone.is_aware(found) == settings.USE_TZ:
        return found
    return timezone.make_aware(found) if settings.USE_TZ else timezone.make_naive(found)
