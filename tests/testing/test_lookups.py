"""Lookups, as they compare decoded values."""

from __future__ import annotations

from typing import Any

import pytest

from example.blog.models import Author, Post
from pgpubsub_sql.testing.lookups import MISSING, differences

ZOE = Author(pk=1, name="Zoë", bio="")
VALUES: dict[str, Any] = {"number": 3, "name": None, "data": {"a": [1, 2]}, "new": ZOE}
DEFERRED = Post.from_db("default", ["id", "title"], [1, "a title"])


def differ(**lookups: Any) -> list[str]:
    return differences(lambda name: VALUES.get(name, MISSING), lookups)


@pytest.mark.parametrize(
    "lookups",
    [
        {"number": 3},
        {"number__in": [1, 3]},
        {"number__gt": 2, "number__gte": 3, "number__lt": 4, "number__lte": 3},
        {"number": lambda value: value % 2},
        {"name": None},
        {"name__isnull": True, "number__isnull": False},
        {"data__a__contains": 2},
        {"data__a__1": 2},
        {"new__name": "Zoë", "new__name__startswith": "Z", "new__name__icontains": "ZO"},
        {"new": Author(pk=1, name="Zoë", bio="")},
        {"new__in": [ZOE]},
        {"new__name__endswith": "ë"},
    ],
)
def test_what_holds(lookups: dict[str, Any]) -> None:
    assert differ(**lookups) == []


@pytest.mark.parametrize(
    ("lookups", "told"),
    [
        ({"number": 4}, "number is 3"),
        ({"number__in": [1]}, "number is 3"),
        ({"number": lambda value: value > 3}, "number is 3"),
        ({"name__gt": 3}, "name is None"),
        ({"data__b": 1}, "there is no data__b"),
        ({"data__a__7": 1}, "there is no data__a__7"),
        ({"other": None}, "there is no other"),
        ({"new__name__contains": "x"}, "new__name is 'Zoë'"),
        (
            {"new": Author(pk=2, name="Zoë", bio="x")},
            "new is Author(id=1, name='Zoë', bio=''); other than expected: id, bio",
        ),
    ],
)
def test_what_differs_is_told(lookups: dict[str, Any], told: str) -> None:
    assert differ(**lookups) == [told]


def test_what_did_not_travel_is_not_loaded() -> None:
    """There is no database here to load it from."""
    values = {"new": DEFERRED}
    compare = Post(pk=1, title="a title", content="not compared")
    assert differences(values.__getitem__, {"new": compare}) == []
    assert differences(values.__getitem__, {"new__content": ""}) == ["there is no new__content"]
    assert differences(values.__getitem__, {"new__author": 1}) == ["there is no new__author"]
    told = differences(values.__getitem__, {"new": 7})
    assert told == ["new is Post(id=1, title='a title')"]
