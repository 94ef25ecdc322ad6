"""Settings, read live from Django's, each a documented function.

The page ``docs/reference/settings.md`` says the same to people who do not read code. All raise
:class:`~django.core.exceptions.ImproperlyConfigured` for a value of another type than theirs.
"""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def is_context_bound_to_transaction() -> bool:
    """``PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT``: whether a context ends with its transaction.

    False is the predecessor's way: :func:`set_notification_context` lasts as long as the
    connection, into the next request where connections persist. Default: True.
    """
    return _flag("PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT", default=True)


def is_context_passed_to_listeners() -> bool:
    """``PGPUBSUB_PASS_CONTEXT_TO_LISTENERS``: whether the context counts as a field of rows.

    Listeners that name ``context`` receive it anyhow. True passes it to those of trigger channels
    that take ``**kwargs``, too, as in the predecessor. Default: False.
    """
    return _flag("PGPUBSUB_PASS_CONTEXT_TO_LISTENERS", default=False)


def listener_filter() -> str | None:
    """``PGPUBSUB_LISTENER_FILTER``: dotted path of a :class:`ListenerFilterProvider`.

    Default: None, and workers take every stored notification of their channels.
    """
    return _text("PGPUBSUB_LISTENER_FILTER")


def _flag(name: str, *, default: bool) -> bool:
    value = getattr(settings, name, default)
    if isinstance(value, bool):
        return value
    # Not merely its truth: that of "False", out of an environment variable, is true.
    raise ImproperlyConfigured(f"{name} must be True or False, not {value!r}.")


def _text(name: str) -> str | None:
    value = getattr(settings, name, None)
    if value is None or isinstance(value, str):
        return value or None
    raise ImproperlyConfigured(f"{name} must be a string, not {value!r}.")
