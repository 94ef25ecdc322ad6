"""Settings: a function each, which reads Django's settings whenever it is called.

``docs/reference/settings.md`` describes them for users. Each raises
:class:`~django.core.exceptions.ImproperlyConfigured` for a value of the wrong type.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def is_counting() -> bool:
    """``PGPUBSUB_COUNTERS``: whether workers write what became of messages into the database.

    Default: True.
    """
    return _flag("PGPUBSUB_COUNTERS", default=True)


def is_context_bound_to_transaction() -> bool:
    """``PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT``: whether a context ends with its transaction.

    False, as in django-pgpubsub: :func:`set_notification_context` lasts as long as the
    connection, which may be into the next request. Default: True.
    """
    return _flag("PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT", default=True)


def is_context_passed_to_listeners() -> bool:
    """``PGPUBSUB_PASS_CONTEXT_TO_LISTENERS``: whether ``**kwargs`` include the context.

    Listeners that name ``context`` receive it in any case. True, as in django-pgpubsub: listeners
    of trigger channels that take ``**kwargs`` receive it, too. Default: False.
    """
    return _flag("PGPUBSUB_PASS_CONTEXT_TO_LISTENERS", default=False)


def is_notify_used() -> bool:
    """``PGPUBSUB_NOTIFY``: whether writers notify workers of messages on durable channels.

    False: workers poll instead. A channel's own ``notify`` wins. ``migrate`` writes it into the
    database, for senders without Django. Default: True.
    """
    return _flag("PGPUBSUB_NOTIFY", default=True)


def listener_filter() -> str | None:
    """``PGPUBSUB_LISTENER_FILTER``: dotted path of a :class:`ListenerFilterProvider`.

    Default: None, so that workers take all stored notifications of their channels.
    """
    return _text("PGPUBSUB_LISTENER_FILTER")


def relay() -> dict[str, Any] | None:
    """``PGPUBSUB_RELAY``: how to reach the broker through which databases exchange messages.

    :mod:`pgpubsub_sql.relay.settings` reads what it holds. Default: None.
    """
    value = getattr(settings, "PGPUBSUB_RELAY", None)
    if value is None or isinstance(value, dict):
        return value
    raise ImproperlyConfigured(f"PGPUBSUB_RELAY must be a dictionary, not {value!r}.")


def _flag(name: str, *, default: bool) -> bool:
    value = getattr(settings, name, default)
    if isinstance(value, bool):
        return value
    # A truthiness test would accept "False", as an environment variable may have it.
    raise ImproperlyConfigured(f"{name} must be True or False, not {value!r}.")


def _text(name: str) -> str | None:
    value = getattr(settings, name, None)
    if value is None or isinstance(value, str):
        return value or None
    raise ImproperlyConfigured(f"{name} must be a string, not {value!r}.")
