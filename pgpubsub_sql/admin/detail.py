"""What the page of one message shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import TextField
from django.db.models.functions import Cast, Left, Length, Now
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _

from pgpubsub_sql.admin.selection import time_in_words
from pgpubsub_sql.admin.words import duration, place
from pgpubsub_sql.inspection import (
    Inspection,
    NoListener,
    inspect_message,
    long_calls,
    max_attempts,
)
from pgpubsub_sql.models import Notification, NotificationQuerySet, State
from pgpubsub_sql.subscriptions import Lane

SHOWN_CHARACTERS = 64 * 1024
"""Characters of a payload that are shown."""
READ_CHARACTERS = 1024 * 1024
"""Characters of a payload that is read, to find out who would handle it."""


def load_message(rows: NotificationQuerySet, pk: Any) -> Notification | None:
    """Return the message *pk*, with as much of its payload as is read here; None if it is gone."""
    text = Cast("payload", TextField())
    found = rows.with_state().defer("payload")
    found = found.annotate(now=Now(), text=Left(text, READ_CHARACTERS), size=Length(text))
    return found.filter(pk=pk).first()


def inspection(message: Any) -> Inspection | None:
    """Return what this code makes of *message*; None if it is too long to be read."""
    if message.size > READ_CHARACTERS:
        return None
    return inspect_message(
        Lane(message.channel, message.subscription), message.text, using=message._state.db
    )


def attempts(message: Notification) -> str:
    """Return how many attempts have failed, and how many there are."""
    most = max_attempts(message.channel)
    if most is None:
        return str(message.attempts)
    return _("%(attempts)d of %(most)d") % {"attempts": message.attempts, "most": most}


def next_try(message: Any) -> str:
    """Return what happens next, and when."""
    due = timeuntil(message.available_at, message.now) if message.available_at else ""
    words: dict[str, Callable[[], str]] = {
        State.READY: lambda: _("ready"),
        State.IN_FLIGHT: lambda: _("in flight"),
        State.DELAYED: lambda: _("in %(due)s") % {"due": due},
        State.RETRYING: lambda: _("in %(due)s") % {"due": due},
        State.PARKED: lambda: _("parked"),
    }
    return words[message.state]()


def state(message: Any) -> str:
    """Return the state in a sentence, with the listener if that takes long."""
    if message.state == State.IN_FLIGHT:
        return _in_flight(message)
    due = timeuntil(message.available_at, message.now) if message.available_at else ""
    words: dict[str, Callable[[], str]] = {
        State.READY: lambda: _("Ready: the next free worker handles it."),
        State.DELAYED: lambda: _("Delayed: it is handled in %(due)s.") % {"due": due},
        State.RETRYING: lambda: _("Failed: it is tried again in %(due)s.") % {"due": due},
        State.PARKED: lambda: _("Parked: it is not tried again until somebody replays it."),
    }
    return words[message.state]()


def _in_flight(message: Any) -> str:
    calls = [one for one in long_calls(message._state.db) if one.message == message.pk]
    if not calls:
        return _("In flight: a worker is handling it.")
    return _("In flight: %(listener)s has been handling it for %(duration)s (%(place)s).") % {
        "listener": calls[0].listener or _("a worker"),
        "duration": duration(calls[0].seconds),
        "place": place(calls[0]),
    }


def ago(of: Any, message: Any) -> str:
    """Return how long ago a time was."""
    return _("%(time)s ago") % {"time": timesince(of, message.now)} if of else ""


def moment(of: Any, message: Any) -> str:
    """Return a time, and how long ago it was."""
    return f"{time_in_words(of)} ({ago(of, message)})" if of else ""


def listeners(found: Inspection | None) -> SafeString | str:
    """Return the listeners that would be called, or why there is none."""
    if found is None:
        return _("The payload is too long to be read here.")
    if found.listeners:
        return format_html_join(SafeString("<br>"), "{}", ((path,) for path in found.listeners))
    words: dict[NoListener | None, Callable[[], str]] = {
        NoListener.UNDECLARED: lambda: _("None: no channel of this name is declared."),
        NoListener.UNREADABLE: lambda: _("None: the payload cannot be read."),
        NoListener.OTHER_EVENTS: lambda: _("None for %(event)s.") % {"event": found.timed_event},
        NoListener.NONE: lambda: _("None: the channel has no listener."),
    }
    return words[found.no_listener]()


def payload(message: Any) -> SafeString:
    """Return the payload, indented if it is short enough."""
    if message.size <= SHOWN_CHARACTERS:
        return block(_indented(message.text))
    shown = _("The first %(shown)d of %(size)d characters:") % {
        "shown": SHOWN_CHARACTERS,
        "size": message.size,
    }
    return format_html("<p>{}</p>{}", shown, block(message.text[:SHOWN_CHARACTERS]))


def context(found: Inspection | None) -> SafeString | str:
    """Return the context of the sender."""
    if found is None or not found.context:
        return ""
    text = json.dumps(found.context, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder)
    return block(text)


def block(text: str) -> SafeString:
    """Return *text* as it is, line by line."""
    return format_html('<pre class="pgpubsub-text">{}</pre>', text)


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # PostgreSQL stores numbers and depths that Python refuses
        return text
