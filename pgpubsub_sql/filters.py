"""The project's own condition on which stored notifications its workers claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from django.apps import apps
from django.core.exceptions import EmptyResultSet, FullResultSet, ImproperlyConfigured
from django.db.models import Q
from django.utils.module_loading import import_string

from pgpubsub_sql import conf
from pgpubsub_sql.django_internals import compile_where
from pgpubsub_sql.sql import SQL

_EVERYTHING = SQL("true")


@runtime_checkable
class ListenerFilterProvider(Protocol):
    """Narrows what workers claim; ``PGPUBSUB_LISTENER_FILTER`` names the class.

    ::

        class OfThisRegion(pgpubsub_sql.ListenerFilterProvider):
            def get_filter(self) -> Q:
                return Q(payload__context__region="eu")

    Notifications that do not match stay stored, for workers with another filter. Messages of
    ephemeral channels are not stored, and so not filtered.
    """

    def get_filter(self) -> Q:
        """Return a condition over the fields of :class:`Notification`."""
        ...


def provider() -> ListenerFilterProvider | None:
    """Return a new instance of the class that the setting names, or None.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` if the setting names no provider.
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


def listener_filter() -> Q | None:
    """Return the condition on what this project's workers claim; None for everything.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` if the provider returns no ``Q``.
    """
    found = provider()
    if found is None:
        return None
    condition = found.get_filter()
    if isinstance(condition, Q):
        return condition
    raise ImproperlyConfigured(
        f"get_filter() of PGPUBSUB_LISTENER_FILTER = {conf.listener_filter()!r} returned "
        f"{condition!r}: have it return a Q over the fields of Notification."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimFilter:
    """A condition over the columns of the stored notifications."""

    text: SQL = _EVERYTHING
    """SQL of the condition; values are named parameters."""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def claim_filter(using: str) -> ClaimFilter:
    """Return :func:`listener_filter` as SQL for the database *using*.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` as that does.
    """
    condition = listener_filter()
    return ClaimFilter() if condition is None else compile_filter(condition, using)


def compile_filter(condition: Q, using: str) -> ClaimFilter:
    """Return *condition* as Django compiles it.

    Raises :class:`~django.core.exceptions.FieldError` for unknown fields.
    """
    found = apps.get_model("pgpubsub_sql", "Notification")._default_manager.filter(condition)
    try:
        text, values = compile_where(found, using)
    except EmptyResultSet:
        return ClaimFilter(text=SQL("false"))
    except FullResultSet:
        return ClaimFilter()
    named = {f"filter_{number}": value for number, value in enumerate(values)}
    # "%%" is a literal per cent sign. It stays doubled, because execute() reads the text again.
    placed = text.replace("%%", "%%%%") % tuple(f"%({name})s" for name in named)
    return ClaimFilter(text=SQL(placed), values=named)
