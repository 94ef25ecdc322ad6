"""How the pages say numbers, lengths of time, and where a worker runs."""

from __future__ import annotations

import datetime

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext

from pgpubsub_sql.inspection import MOST, LongCall


def count(number: int) -> str:
    """Return a number of messages, as far as they are counted."""
    return f"{number_format(min(number, MOST), force_grouping=True)}{'+' if number > MOST else ''}"


def duration(seconds: float | None) -> str:
    """Return a length of time in words; empty for none."""
    if seconds is None:
        return ""
    if seconds < 60:
        whole = max(0, round(seconds))
        return ngettext("%(number)d second", "%(number)d seconds", whole) % {"number": whole}
    now = timezone.now()
    return timesince(now - datetime.timedelta(seconds=seconds), now)


def place(call: LongCall) -> str:
    """Return where a worker runs that takes long."""
    words = gettext("process %(process)d on %(host)s")
    return words % {"process": call.process, "host": call.host}
