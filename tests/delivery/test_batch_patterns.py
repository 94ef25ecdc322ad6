"""Whichever messages of a batch listener are bad: good ones are handled once, bad ones charged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgpubsub_sql import notify
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import list_batch
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.models import Entry
from tests.delivery.channels import Pile
from tests.delivery.sending import hasten
from tests.ledger import calls

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 300
"""Many more than it takes: each of the bad ones is tried three times."""


@dataclass(frozen=True)
class Case:
    """Messages, by key and whether they are bad, and the budget of a batch."""

    messages: Sequence[tuple[str | None, str]]
    calls: int
    size: int


cases = st.builds(
    Case,
    messages=st.lists(
        st.tuples(
            st.sampled_from([None, None, "a", "b", "c"]), st.sampled_from(["good", "good", "bad"])
        ),
        min_size=1,
        max_size=24,
    ),
    calls=st.sampled_from([1, 2, 3, 5, 8, 40]),
    size=st.sampled_from([1, 2, 3, 10, 24]),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases)
@example(Case([(None, "bad")] * 8, calls=3, size=24))
@example(Case([(None, "bad")] * 8 + [(None, "good")] * 8, calls=4, size=24))
@example(Case([("a", "bad"), ("a", "good"), ("b", "good")] * 3, calls=3, size=24))
def test_good_messages_are_handled_once_and_bad_ones_are_charged(
    transactional_db: None, case: Case
) -> None:
    """In the order of their keys, without a charge for the good ones, until the bad are parked."""
    Notification.objects.all().delete()
    Entry.objects.all().delete()
    with transaction.atomic():
        for number, (account, mood) in enumerate(case.messages):
            notify(Pile(account, number, mood))
    ids = dict(Notification.objects.values_list("id", "payload__number"))
    charged = []

    def observe(attempts: Sequence[Attempt]) -> None:
        charged.extend(ids[one.id] for one in attempts if counts(one))

    with (
        patch.object(list_batch, "LIST_CALLS", case.calls),
        patch.object(list_batch, "FREE_OUTAGES", 1),
        patch.object(list_batch, "LIST_SECONDS", 60.0),
        patch("pgpubsub_sql.worker.claims.RESTART_SECONDS", 60.0),
    ):
        handle_all(case, observe)
    numbers = {mood: [] for mood in ("good", "bad")}
    for number, (_, mood) in enumerate(case.messages):
        numbers[mood].append(number)
    handled = [data["number"] for data in calls("pile")]
    assert sorted(handled) == numbers["good"]
    for key in "abc":
        of_key = [number for number in handled if case.messages[number][0] == key]
        assert of_key == sorted(of_key)
    assert sorted(charged) == sorted(numbers["bad"] * 3)
    parked = Notification.objects.parked().order_by("id").values_list("payload__number", flat=True)
    assert list(parked) == numbers["bad"]


def counts(attempt: Attempt) -> bool:
    """Whether it is an attempt that counts."""
    return type(attempt.outcome).__name__ in ("TryAgain", "Park")


def handle_all(case: Case, observe: object) -> None:
    """Handle messages, and let time pass, until none but parked ones are left."""
    delivery = Delivery([Pile], using="default", observe=observe)  # type: ignore[arg-type]
    sizing = delivery._states[Lane(Pile.postgres_name())].sizing
    sizing._size = sizing._largest = case.size
    for _ in range(ROUNDS):
        while delivery.handle_stored(Pile.postgres_name()):
            pass
        if not Notification.objects.exclude(available_at=None).exists():
            return
        hasten()
    raise AssertionError(f"Not settled after {ROUNDS} rounds")
