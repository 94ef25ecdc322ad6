"""Replay, retry and discard: what they do to selected messages, and how long they take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, ngettext_lazy

from pgpubsub_sql.models import Notification, NotificationQuerySet

SECONDS = 10.0
"""How long one request changes messages, before it asks whether to go on."""


class _OutOfTime(Exception):
    """Ends a change after a batch that is committed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MessageChange:
    """Something that can be done to messages."""

    name: str
    """Name of the method of :class:`NotificationQuerySet`, and of the page."""
    permission: str
    label: Any
    """On a button, for the messages chosen."""
    label_all: Any
    """On a button, for all that match."""
    help: Any
    """What it does, in a sentence."""
    done: Any
    """Says how many it was done to."""
    must_confirm: bool = False
    """Whether to ask even for those that were chosen one by one."""
    model: type[Model] = Notification
    """What it is done to."""
    is_wanted: Callable[[NotificationQuerySet], NotificationQuerySet] = lambda rows: rows
    """Leaves out those that it is not for."""

    def run(self, rows: NotificationQuerySet, *, seconds: float = SECONDS) -> tuple[int, bool]:
        """Change *rows*, a thousand a transaction; return their number, and whether that is all."""
        until, changed = time.monotonic() + seconds, 0

        def progress(number: int) -> None:
            nonlocal changed
            changed = number
            if time.monotonic() >= until:
                raise _OutOfTime

        try:
            getattr(self.is_wanted(rows), self.name)(progress=progress)
        except _OutOfTime:
            return changed, False
        return changed, True

    def allows(self, user: Any) -> bool:
        """Whether *user* may do it."""
        return bool(user.has_perm(f"pgpubsub_sql.{self.permission}"))

    def log(self, user: Any, number: int, what: str, pk: int | None = None) -> None:
        """Record in the admin's log that it was done, once for all messages."""
        LogEntry.objects.create(
            user_id=user.pk,
            content_type_id=ContentType.objects.get_for_model(self.model).pk,
            object_id=None if pk is None else str(pk),
            object_repr=Truncator(what).chars(200),
            action_flag=DELETION if self.name == "discard" else CHANGE,
            change_message=str(self.done % {"number": number}),
        )


REPLAY = MessageChange(
    name="replay",
    permission="replay",
    label=_("Replay: handle again, with all attempts"),
    label_all=_("Replay all that match"),
    help=_("They become ready now, and their attempts are counted from zero."),
    done=ngettext_lazy(
        "%(number)d message was replayed.", "%(number)d messages were replayed.", "number"
    ),
)
RETRY = MessageChange(
    name="retry",
    permission="replay",
    label=_("Retry now, with the attempts that are left"),
    label_all=_("Retry now all that match"),
    help=_(
        "They become ready now, and keep the attempts that they have left. "
        "Those that are parked have none left, and stay as they are: replay them."
    ),
    done=ngettext_lazy(
        "%(number)d message was retried.", "%(number)d messages were retried.", "number"
    ),
    is_wanted=lambda rows: rows.filter(available_at__isnull=False, failed_at__isnull=False),
)
DISCARD = MessageChange(
    name="discard",
    permission="discard",
    label=_("Discard: delete unhandled"),
    label_all=_("Discard all that match"),
    help=_("They are deleted, and never handled. This cannot be undone."),
    done=ngettext_lazy(
        "%(number)d message was discarded.", "%(number)d messages were discarded.", "number"
    ),
    must_confirm=True,
)
CHANGES: Mapping[str, MessageChange] = {one.name: one for one in (REPLAY, RETRY, DISCARD)}


def skipped(number: int) -> str:
    """Say that *number* of the messages chosen were left as they are."""
    return ngettext(
        "%(number)d message was skipped: a worker has it, or it has changed meanwhile.",
        "%(number)d messages were skipped: a worker has them, or they have changed meanwhile.",
        number,
    ) % {"number": number}
