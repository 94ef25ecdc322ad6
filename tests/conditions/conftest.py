from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conditions.corpus import rows
from tests.conditions.models import Change, Owner, Thing


@pytest.fixture(scope="module")
def changes(django_db_setup: None, django_db_blocker: pytest.FixtureDef) -> Iterator[int]:
    """Every pair of an old row, or none, and a new row, or none; return their number."""
    with django_db_blocker.unblock():
        Owner.objects.bulk_create(Owner(pk=pk, name="") for pk in (1, 2))
        things = [Thing.objects.create(pk=pk, **row) for pk, row in enumerate(rows(), 1)]
        pairs = [(old, new) for old in [None, *things] for new in [None, *things]]
        Change.objects.bulk_create(Change(old=old, new=new) for old, new in pairs)
        yield len(pairs)
        for model in (Change, Thing, Owner):
            model.objects.all().delete()
