"""Sending messages of the history again."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from itertools import pairwise

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from pgpubsub_sql import Handled, Notification, notify
from pgpubsub_sql.migrations_ops.subscriptions import register
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Step
from tests.delivery.sending import drain, jobs
from tests.kept import keep, scatter
from tests.ledger import numbers, sql

pytestmark = pytest.mark.django_db(transaction=True)

NEW = "search"


@pytest.fixture
def subscribed(transactional_db: None) -> Iterator[None]:
    """Register two subscriptions of Job besides the one without a name."""
    add = "INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES ('app.Job', %s)"
    for name in ("mail", NEW):
        sql(add, name)
    yield
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = 'app.Job' AND name <> ''")
    register(connection)


def stored() -> list[tuple[str, int]]:
    """Return subscription and number of what is stored, in the order of its numbers."""
    rows = Notification.objects.order_by("message", "subscription")
    return [(row.subscription, row.payload["number"]) for row in rows]


def test_messages_are_sent_again_in_order_and_as_new(delivery: Delivery) -> None:
    for number in range(6):
        notify(Step(account="ab"[number % 2], number=number))
    drain(delivery, Step)
    before = list(Handled.objects.order_by("id").values_list("payload", "key"))
    sql("UPDATE pgpubsub_sql_history SET attempts = array_fill(3, ARRAY[cardinality(ids)])")
    assert Handled.from_channel(Step).replay() == 6
    rows = Notification.objects.order_by("id")
    assert [(row.payload, row.key) for row in rows] == before
    assert {row.attempts for row in rows} == {0}
    assert all(one.message < other.message for one, other in pairwise(rows))
    assert min(row.message for row in rows) > Handled.objects.latest("id").pk
    drain(delivery, Step)
    assert numbers("step") == [*range(6), *range(6)]
    assert Handled.objects.count() == 12


@pytest.mark.usefixtures("subscribed")
def test_a_message_of_several_subscriptions_is_sent_once_to_each_or_to_one() -> None:
    one = Delivery([Job], using="default", schema="public")
    jobs("good", "good", "good")
    drain(one)
    for name in ("mail", NEW):
        assert Notification.objects.filter(subscription=name).discard() == 3
    assert Handled.objects.count() == 9
    assert Handled.objects.replay(subscription=NEW) == 3
    assert stored() == [(NEW, 1), (NEW, 2), (NEW, 3)]
    Notification.objects.all().delete()
    assert Handled.objects.filter(subscription="mail").replay() == 3
    assert stored() == [(name, number) for number in (1, 2, 3) for name in ("", "mail", NEW)]
    Notification.objects.all().delete()
    assert Handled.objects.replay(subscription="") == 3
    assert stored() == [("", 1), ("", 2), ("", 3)]


def test_what_has_expired_since_it_was_handled_is_not_sent_again(delivery: Delivery) -> None:
    """And what has not still expires in time."""
    hour = timezone.now() + datetime.timedelta(hours=1)
    for number in (1, 2):
        notify(Job(number=number), expires=hour)
    drain(delivery)
    scatter()
    sql("UPDATE pgpubsub_sql_history SET expires[1] = now() WHERE payloads[1]->>'number' = '1'")
    assert Handled.objects.count_again() == 1
    assert Handled.objects.replay() == 1
    (row,) = Notification.objects.all()
    assert (row.payload["number"], row.expires_at) == (2, hour)


def test_adopted_messages_are_sent_again_too() -> None:
    """Their numbers are negative; buckets begin far below."""
    for number in (-5, -4097, 5):
        keep(number, id="%s", channel="'app.Job'", payload="'{\"number\": 1}'::jsonb")
    assert Handled.objects.count_again() == Handled.objects.replay() == 3


def test_a_subscription_that_is_not_registered_is_an_error(delivery: Delivery) -> None:
    jobs("good")
    drain(delivery)
    with pytest.raises(LookupError, match=r"app\.Job has no subscription 'serch'.*run migrate"):
        Handled.objects.replay(subscription="serch")
    assert not Notification.objects.exists()


def test_an_interrupted_replay_goes_on_where_it_was(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And sends nothing again that it has sent itself."""
    monkeypatch.setattr("pgpubsub_sql.handled.PAGE", 4)
    jobs(*["good"] * 10)
    drain(delivery)
    chosen = Handled.objects.filter(handled_at__lte=timezone.now())
    seen: list[tuple[int, int]] = []

    def interrupt(sent: int, number: int) -> None:
        seen.append((sent, number))
        drain(delivery)
        if sent == 8:
            raise OperationalError("the server is gone")

    with pytest.raises(OperationalError):
        chosen.replay(progress=interrupt)
    assert chosen.replay(after=seen[-1][1], progress=lambda sent, number: drain(delivery)) == 2
    assert numbers("do_job") == [*range(1, 11), *range(1, 11)]


def test_a_replay_whose_messages_are_kept_meanwhile_comes_to_an_end(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpubsub_sql.handled.PAGE", 2)
    jobs(*["good"] * 6)
    drain(delivery)
    assert Handled.objects.replay(progress=lambda sent, number: drain(delivery)) == 6
    assert len(numbers("do_job")) == 12


def test_a_page_that_fails_sends_nothing_of_it(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages of earlier pages were sent."""
    monkeypatch.setattr("pgpubsub_sql.handled.PAGE", 2)
    jobs(*["good"] * 4)
    drain(delivery)

    def rename(sent: int, number: int) -> None:
        sql("ALTER TABLE pgpubsub_sql_subscription RENAME TO elsewhere")

    with pytest.raises(Exception, match="pgpubsub_sql_subscription"):
        Handled.objects.replay(progress=rename)
    sql("ALTER TABLE elsewhere RENAME TO pgpubsub_sql_subscription")
    assert stored() == [("", 1), ("", 2)]


def test_the_rate_is_kept(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    """By waiting between pages that hold no more than a second's messages."""
    waited: list[float] = []
    monkeypatch.setattr("pgpubsub_sql.handled.time.sleep", waited.append)
    monkeypatch.setattr("pgpubsub_sql.handled.time.monotonic", lambda: 0.0)
    jobs(*["good"] * 5)
    drain(delivery)
    assert Handled.objects.replay(rate=2) == 5
    assert waited == [0.0, 1.0, 2.0]
    assert Handled.objects.filter(payload__number=1).replay(rate=0.5) == 1
    assert waited == [0.0, 1.0, 2.0, 0.0]


def test_numbers_that_json_of_python_would_change_arrive_as_they_were(delivery: Delivery) -> None:
    """Payloads never leave the server."""
    payload = '{"number": 1, "mood": "good", "exact": 0.10000000000000000000000000000000000001}'
    sql("SELECT pgpubsub_notify('app.Job', %s)", payload)
    drain(delivery)
    assert Handled.objects.replay() == 1
    ((text,),) = sql("SELECT payload::text FROM pgpubsub_sql_notification")
    assert "0.10000000000000000000000000000000000001" in text
