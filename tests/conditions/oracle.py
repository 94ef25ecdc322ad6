"""What Django says of a condition."""

from __future__ import annotations

from django.db.models import Q

from tests.conditions.models import Change


def by_filter(condition: Q) -> set[int]:
    """Return the changes for which the condition holds as a filter."""
    found = Change.objects.filter(condition).values_list("pk", flat=True)
    # filter() leaves out what has no old or no new row wherever it thinks that it may.
    found.query.promote_joins(set(found.query.alias_map))
    return set(found)
