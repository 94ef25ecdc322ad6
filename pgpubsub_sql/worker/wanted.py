"""What the project's :class:`ListenerFilterProvider` leaves, as SQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.models import Q

from pgpubsub_sql import filters
from pgpubsub_sql.sql import SQL

_ANYTHING = SQL("true")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A condition over the columns of the stored notifications."""

    text: SQL = _ANYTHING
    """Of it. Values are named parameters."""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def wanted(using: str) -> Wanted:
    """Return what this project's workers take.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` where that cannot be said.
    """
    condition = filters.wanted()
    return Wanted() if condition is None else compiled(condition, using)


def compiled(condition: Q, using: str) -> Wanted:
    """Return *condition* as Django's own compiler has it.

    Raises :class:`~django.core.exceptions.FieldError` for fields that there are not.
    """
    found: Any = apps.get_model("pgpubsub_sql", "Notification")._default_manager.filter(condition)
    try:
        text, values = found.query.get_compiler(using).compile(found.query.where)
    except EmptyResultSet:
        return Wanted(text=SQL("false"))
    except FullResultSet:
        return Wanted()
    named = {f"wanted_{number}": value for number, value in enumerate(values)}
    # A per cent sign that is none of a placeholder is written twice, and stays so.
    placed = text.replace("%%", "%%%%") % tuple(f"%({name})s" for name in named)
    return Wanted(text=SQL(placed), values=named)
