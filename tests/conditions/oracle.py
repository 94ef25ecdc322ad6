"""The meaning of a condition according to Django."""

from __future__ import annotations

from django.db.models import Q

from tests.conditions.models import Change


def by_filter(condition: Q) -> set[int]:
    """Return the changes for which the condition holds as a filter."""
    found = Change.objects.filter(condition).values_list("pk", flat=True)
    # filter() drops changes without an old or a new row whenever it considers that safe.
    found.query.promote_joins(set(found.query.alias_map))
    return set(found)
