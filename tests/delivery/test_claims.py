"""What one claim takes: no more bytes than a worker should hold, and few columns of each row."""

from __future__ import annotations

import json
from functools import partial

import pytest

from pgpubsub_sql import notify
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import claims
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Step
from tests.delivery.sending import jobs
from tests.ledger import numbers, sql

pytestmark = pytest.mark.django_db(transaction=True)

RANDOM = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 125))"
"""Some 4,000 bytes that cannot be compressed."""


def pad(text: str) -> None:
    """Add *text*, SQL, to what is stored; listeners do not read it."""
    sql(
        f"UPDATE pgpubsub_sql_notification SET payload = payload || jsonb_build_object('_', {text})"
    )


def left_after_each(delivery: Delivery, name: str) -> list[int]:
    """Handle what is stored; return how many were left after each batch."""
    left = []
    while Notification.objects.exists():
        delivery.handle_stored(name)
        left.append(Notification.objects.count())
    return left


def test_a_claim_is_bounded_by_the_size_of_its_payloads(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CLAIM_BYTES", 10_000)
    jobs(*["good"] * 5)
    pad(RANDOM)
    assert left_after_each(delivery, "app.Job") == [3, 1, 0]
    assert numbers("do_job") == [1, 2, 3, 4, 5]


def test_what_a_claim_left_out_is_claimed_at_once(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that is not full because of its size is not the last one."""
    monkeypatch.setattr(claims, "CLAIM_BYTES", 10_000)
    jobs("good", "good", "good")
    pad(RANDOM)
    assert delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1, 2]


def test_a_payload_larger_than_the_bound_is_claimed_by_itself(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CLAIM_BYTES", 100)
    jobs("good", "good")
    pad(RANDOM)
    assert left_after_each(delivery, "app.Job") == [1, 0]


def test_what_compresses_well_counts_for_more_than_is_stored(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200,000 equal letters are stored in some 2,300 bytes."""
    monkeypatch.setattr(claims, "CLAIM_BYTES", 100_000)
    jobs("good", "good", "good")
    pad("repeat('x', 200000)")
    ((size,),) = sql("SELECT max(pg_column_size(payload)) FROM pgpubsub_sql_notification")
    assert size < 10_000
    assert left_after_each(delivery, "app.Job") == [2, 1, 0]


def test_an_ordered_claim_is_bounded_as_well(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cut off is the end of a key's messages, or whole keys: each key stays in order."""
    monkeypatch.setattr(claims, "CLAIM_BYTES", 10_000)
    for number in range(1, 9):
        notify(Step(account=f"account {number % 2}", number=number))
    pad(RANDOM)
    left = left_after_each(delivery, "app.Step")
    assert all(before - after <= 2 for before, after in zip([8, *left], left, strict=False))
    handled = numbers("step")
    assert sorted(handled) == list(range(1, 9))
    assert [number for number in handled if number % 2] == [1, 3, 5, 7]
    assert [number for number in handled if not number % 2] == [2, 4, 6, 8]


@pytest.mark.parametrize("channel", [Job, Step])
def test_a_usual_message_brings_no_rare_columns(
    delivery: Delivery, channel: type[Job] | type[Step]
) -> None:
    notify(Job(number=1) if channel is Job else Step(account="a", number=1))
    with delivery.session.isolation() as isolation:
        state = delivery._states[Lane(channel.postgres_name())]
        # Ordered claims begin with messages without a key.
        take = partial(state.claims.take, 10, thorough=True)
        (one,) = take().claimed or take().claimed
        assert one.unusual is None
        assert json.loads(one.payload)["number"] == 1
        isolation._connection.set_rollback(True)


def test_what_is_put_back_is_stored_as_it_was(delivery: Delivery) -> None:
    """Also what is unusual, and times of which Python knows nothing."""
    jobs("good", "good")
    sql(
        "UPDATE pgpubsub_sql_notification SET attempts = 3, unreadable = 2, key = '[1]',"
        " failed_at = 'infinity', reason = 'r',"
        " last_error = E'a\\n\"b\"', expires_at = 'infinity', created_at = '4713-01-01 00:00:00 BC'"
        " WHERE payload->>'number' = '2'"
    )
    everything = "SELECT n::text FROM pgpubsub_sql_notification AS n ORDER BY id"
    _, second = sql(everything)
    delivery.is_stopping = lambda: True
    delivery.handle_stored("app.Job")
    assert sql(everything) == [second]
