"""What a channel may ask for, and what is said to one that asks for nonsense."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import pytest

import pgpubsub_sql
from pgpubsub_sql import checks
from tests.registries import blank  # noqa: F401

pytestmark = pytest.mark.usefixtures("blank")


def complaints(**options: Any) -> list[str]:
    """Return what the checks say of a durable channel with these options."""

    @dataclass
    class Parcel(pgpubsub_sql.Channel):
        number: int
        place: str = ""
        lock_notifications = True

    for name, value in options.items():
        setattr(Parcel, name, value)
    return [problem.msg for problem in checks.check_channels()]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("retry", 5, "Parcel has the retry 5: set a pgpubsub_sql.Retry("),
        ("retry", None, "Parcel has the retry None: set a"),
        ("timeout", 0, "Parcel has the timeout 0: set seconds, more than 0, or None"),
        ("timeout", "1", "Parcel has the timeout '1'"),
        ("timeout", True, "Parcel has the timeout True"),
        ("timeout", datetime.timedelta(1), "Parcel has the timeout datetime.timedelta"),
        ("timeout", float("inf"), "Parcel has the timeout inf"),
        ("batch_size", 0, "Parcel has the batch_size 0: set an integer of at least 1, or None"),
        ("batch_size", 1.5, "Parcel has the batch_size 1.5"),
        ("batch_size", True, "Parcel has the batch_size True"),
        (
            "ordering_key",
            "nmber",
            "has no field 'nmber', which its ordering_key names. Its fields are",
        ),
        ("ordering_key", ("number", "x"), "has no field 'x'"),
        ("ordering_key", "", "Parcel has the ordering_key '': set the name of a field"),
        ("ordering_key", None, "Parcel has the ordering_key None"),
        ("ordering_key", {"number"}, "Parcel has the ordering_key {'number'}"),
    ],
)
def test_nonsense_is_named_with_its_remedy(option: str, value: Any, words: str) -> None:
    (complaint,) = complaints(**{option: value})
    assert words in complaint


def test_an_order_needs_a_store() -> None:
    (complaint,) = complaints(lock_notifications=False, ordering_key="number")
    assert "Parcel has an ordering_key but is ephemeral" in complaint
    assert "Set lock_notifications = True" in complaint


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retry": pgpubsub_sql.Retry(max_attempts=1), "timeout": 0.5, "batch_size": 1},
        {"ordering_key": "number"},
        {"ordering_key": ("number", "place")},
        {"ordering_key": ["place"]},
        {"timeout": 10, "batch_size": None, "ordering_key": ()},
    ],
)
def test_sense_is_not_complained_of(options: dict[str, Any]) -> None:
    assert complaints(**options) == []
