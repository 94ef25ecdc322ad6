"""A condition of the project's own on which stored notifications its workers take."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q
from django.utils.module_loading import import_string

from pgpubsub_sql import conf


@runtime_checkable
class ListenerFilterProvider(Protocol):
    """Narrows what workers take; ``PGPUBSUB_LISTENER_FILTER`` names the class to ask.

    ::

        class OfThisRegion(pgpubsub_sql.ListenerFilterProvider):
            def get_filter(self) -> Q:
                return Q(payload__context__region="eu")

    What it leaves stays stored, for workers that ask for something else. Messages of ephemeral
    channels are not stored, and so not filtered.
    """

    def get_filter(self) -> Q:
        """Return a condition over the fields of :class:`Notification`."""
        ...


def provider() -> ListenerFilterProvider | None:
    """Return a new provider, of the class that the setting names; None where it names none.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` where it leads to no provider.
    """
    path = conf.listener_filter()
    if path is None:
        return None
    try:
        found = import_string(path)()
    except (ImportError, TypeError) as error:
        raise ImproperlyConfigured(f"PGPUBSUB_LISTENER_FILTER = {path!r}: {error}") from error
    if isinstance(found, ListenerFilterProvider):
        return found
    raise ImproperlyConfigured(
        f"PGPUBSUB_LISTENER_FILTER = {path!r} has no get_filter(): derive it from "
        "pgpubsub_sql.ListenerFilterProvider."
    )


def wanted() -> Q | None:
    """Return what this project's workers take; None for everything.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` where that cannot be said.
    """
    asked = provider()
    if asked is None:
        return None
    condition = asked.get_filter()
    if isinstance(condition, Q):
        return condition
    raise ImproperlyConfigured(
        f"get_filter() of PGPUBSUB_LISTENER_FILTER = {conf.listener_filter()!r} returned "
        f"{condition!r}: have it return a Q over the fields of Notification."
    )
