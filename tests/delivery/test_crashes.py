"""A message that its worker dies of: seen by whoever claims next, retried alone, parked."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from pgpubsub_sql import Notification, Retry, notify
from pgpubsub_sql.sql import render
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import Job, Step
from tests.conftest import Listen, eventually
from tests.delivery.channels import LoneJob, Twice
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import listeners_wait, numbers, sql, stored, stranger, waiting

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]

DEATH = "The worker died while it handled this notification, and no other"


def account(channel: Any, name: str) -> dict[str, str]:
    return {"account": name} if channel is Step else {}


def any_charged() -> bool:
    """Whether something has been charged with an attempt."""
    return Notification.objects.filter(attempts__gt=0).exists()


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("mood", ["die", "kill", "vanish"])
def test_a_message_that_kills_its_worker_is_charged_and_the_rest_is_handled(
    listen: Start, processes: str, mood: str
) -> None:
    """P8: os._exit(), even with 0, and SIGKILL, as the kernel's when memory is short."""
    jobs("good", mood, "good")
    listener = listen("--channels", "app.Job", "--processes", processes)
    eventually(lambda: sorted(numbers("do_job")) == [1, 3] and any_charged())
    (row,) = stored().values()
    assert (row.payload["number"], row.alone, row.attempts) == (2, True, 1)
    assert DEATH in row.last_error
    assert "Each will be handled in a transaction of its own" in listener.log
    eventually(
        lambda: f"Notification {row.id} of channel app.Job failed and will be" in listener.log
    )
    assert listener.stop() == 0
    assert Notification.objects.waiting().exists()


@pytest.mark.parametrize(
    ("channel", "arguments"),
    [(Job, ["--worker"]), (Job, ["--processes", "2"]), (Job, ["--drain"]), (Step, [])],
)
def test_a_message_that_kills_the_supervisor_is_parked_in_the_end(
    listen: Start, channel: Any, arguments: list[str]
) -> None:
    """F39: a memory limit kills the whole container, and whoever starts it again knows nothing."""
    for number, mood in enumerate(["kill all", "good"], 1):
        notify(channel(number=number, mood=mood, **account(channel, str(number))))
    Notification.objects.filter(payload__number=1).update(attempts=channel.retry.max_attempts - 1)
    for _ in range(2):  # it kills the first in company, the second alone
        listener = listen("--channels", channel.postgres_name(), *arguments)
        assert listener.process.wait(30) == -signal.SIGKILL
    listen("--channels", channel.postgres_name(), *arguments)
    eventually(Notification.objects.parked().exists)
    eventually(lambda: len(stored()) == 1)
    (row,) = stored().values()
    assert (row.payload["number"], row.attempts) == (1, channel.retry.max_attempts)
    assert DEATH in row.last_error
    assert numbers("step" if channel is Step else "do_job") == [2]


def test_a_message_that_always_kills_its_worker_is_parked(listen: Start) -> None:
    """And no worker dies of it any more."""
    jobs("die")
    Notification.objects.update(attempts=8)
    listener = listen("--channels", "app.Job")
    eventually(lambda: hasten() or Notification.objects.parked().exists())
    (row,) = stored().values()
    assert row.attempts == 10
    eventually(
        lambda: f"Notification {row.id} of channel app.Job failed and is parked" in (listener.log)
    )
    jobs("good")
    eventually(lambda: numbers("do_job") == [1])
    assert listener.log.count("died with") == 3


def test_the_server_notices_a_dead_worker_during_a_query(listen: Start) -> None:
    """Without being told, it would hold the rows for as long as the query takes."""
    jobs("wait", "good")
    listener = listen("--channels", "app.Job")
    with listeners_wait():
        eventually(waiting)
        pid = int(listener.log.partition("started as process ")[2].split()[0])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: Notification.objects.filter(alone=True).count() == 2)


def test_drain_goes_on_after_a_death_and_reports_it(listen: Start) -> None:
    """It has been tried, and is put off as whatever fails; the rest is handled."""
    jobs("good", "die", "good")
    listener = listen("--channels", "app.Job", "--drain")
    assert listener.process.wait(30) == 1, listener.log
    assert numbers("do_job") == [1, 3]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1}
    assert not Notification.objects.ready().exists()


# --- Without a process


class Death(BaseException):
    """Ends a worker, as a timeout of gevent's would: nobody catches it."""


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mood "die" does to a worker that is not a process."""

    def die() -> None:
        raise Death

    monkeypatch.setitem(listeners.MOODS, "die", die)


def outlive(channel: Any) -> int:
    """Handle what is ready, with a new worker after each death; return how many have died."""
    deaths = 0
    while True:
        try:
            drain(Delivery([channel], using="default"), channel)
            return deaths
        except Death:
            deaths += 1


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize("channel", [Job, Step, LoneJob])
def test_messages_in_flight_with_it_are_not_charged(channel: Any) -> None:
    """F39: messages in flight with it are handled alone from then on, which shows the culprit."""
    for number, mood in enumerate(["good", "good", "die", "good"], 1):
        notify(channel(number=number, mood=mood, **account(channel, str(number))))
    deaths = outlive(channel)
    (row,) = stored().values()
    assert (row.payload["number"], row.attempts, row.alone) == (3, deaths - 1, True)
    assert sorted(set(listeners.called)) == [1, 2, 3, 4]


@pytest.mark.usefixtures("deadly")
@pytest.mark.parametrize("channel", [Job, Step])
def test_a_message_handled_alone_is_not_charged_for_others(channel: Any) -> None:
    """F39: neither for what is alone, too, nor for those that are handled together."""
    for number, mood in enumerate(["good", "die", "good"], 1):
        notify(channel(number=number, mood=mood, **account(channel, "a")))
    sql("UPDATE pgpubsub_sql_notification SET alone = payload->'number' <> '1'")
    delivery = Delivery([channel], using="default")
    while not any_charged():
        with suppress(Death):
            delivery.handle_stored(channel.postgres_name())
    attempts = {number: row.attempts for number, row in stored().items()}
    assert (attempts.pop(2), set(attempts.values()) - {0}) == (1, set())


@pytest.mark.usefixtures("deadly")
def test_a_message_is_parked_after_max_attempts_deaths() -> None:
    """F39: two of them here, after the death in company, which is none's fault."""
    notify(Twice(number=1, mood="die"))
    deaths = 0
    for _ in range(4):
        hasten()
        deaths += outlive(Twice)
    (row,) = Notification.objects.parked()
    assert (deaths, row.attempts) == (3, 2)
    assert row.last_error.startswith("pgpubsub_sql.errors.WorkerDied: ")


@pytest.mark.usefixtures("deadly")
def test_crash_accounting_does_not_read_the_payload(delivery: Delivery) -> None:
    """F39: it may be so large that it kills whoever fetches it."""
    jobs("good", "die", "good")
    with pytest.raises(Death):
        delivery.handle_stored("app.Job")
    with delivery.session.isolation():
        claim = delivery._states[Lane("app.Job")].claims.take(10, thorough=True)
    assert [(one.id, one.payload) for one in claim.abandoned] == [
        (row.id, None) for row in stored().values()
    ]
    assert not claim.claimed


@pytest.mark.parametrize("mood", ["close", "roll back raw", "unseen dangling", "terminate"])
def test_a_failure_the_worker_records_itself_is_no_crash(
    mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F39: it has written the row anew, which has not been in flight since."""
    jobs("good", mood, "good")
    outlive(Job)
    hasten()
    sql('UPDATE pgpubsub_sql_notification SET payload = payload || \'{"mood": "good"}\'')
    outlive(Job)
    assert not stored()
    assert "were in flight in a transaction" not in caplog.text
    assert DEATH not in caplog.text


@pytest.mark.parametrize(
    ("mood", "attempts", "reason"),
    [
        ("close", 1, "closed the connection"),
        ("terminate", 0, "connection"),
    ],
)
@pytest.mark.parametrize("most", [1, 10])
def test_the_reason_of_the_worker_that_failed_replaces_the_crash_record(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    mood: str,
    attempts: int,
    reason: str,
    most: int,
) -> None:
    """F39: another worker claims it between the end of its transaction and the account of it."""
    monkeypatch.setattr(Job, "retry", Retry(max_attempts=most))
    jobs(mood)
    sql("UPDATE pgpubsub_sql_notification SET alone = true")
    other, charge = (
        Delivery([Job], using="default", schema="public"),
        delivery.session.record_failure,
    )
    found = []

    def charge_later(*given: Any) -> None:
        other.handle_stored("app.Job")
        found.extend((row.attempts, DEATH in row.last_error) for row in stored().values())
        charge(*given)

    monkeypatch.setattr(delivery.session, "record_failure", charge_later)
    delivery.handle_stored("app.Job")
    assert found == [(1, True)]
    (row,) = stored().values()
    assert row.attempts == attempts
    assert reason in row.last_error
    assert (row.available_at is None) == (most == attempts)


@pytest.mark.parametrize(("end", "is_alone"), [("COMMIT", False), ("ROLLBACK", True)])
def test_a_row_that_another_session_had_locked_is_not_charged(
    delivery: Delivery, caplog: pytest.LogCaptureFixture, end: str, is_alone: bool
) -> None:
    """F39: a lock leaves the same mark if its transaction is rolled back, and costs no more."""
    jobs("good", "good")
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM pgpubsub_sql_notification FOR UPDATE")
        other.execute(end)
    delivery.handle_stored("app.Job")
    assert {row.alone for row in stored().values()} == ({True} if is_alone else set())
    drain(delivery)
    assert numbers("do_job") == [1, 2]
    assert (
        "were in flight in a transaction that was rolled back (number: 2)" in caplog.text
    ) == is_alone
    assert "failed" not in caplog.text


def test_an_xmax_that_is_no_past_transaction_is_no_crash() -> None:
    """F39: several lockers share an id of another kind; what it says must not end a claim."""
    ((now,),) = sql("SELECT pg_current_xact_id()::text::bigint")
    marks = [0, 1, 2, 3, now + 1, now + 1_000_000, now + 2**31 - 1, now + 2**31 + 5, 2**32 - 1]
    judged = sql(
        f"SELECT {render('queries/given_up')} FROM (SELECT text::xid AS mark"
        " FROM unnest(%s::text[]) AS text) AS marks",
        [str(mark) for mark in marks],
    )
    assert judged == [(False,)] * len(marks)


def test_two_lockers_that_roll_back_are_no_crash(delivery: Delivery) -> None:
    """F39: their shared id."""
    jobs("good")
    with stranger() as one, stranger() as other:
        for cursor in (one, other):
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM pgpubsub_sql_notification FOR SHARE")
        for cursor in (one, other):
            cursor.execute("ROLLBACK")
    drain(delivery)
    assert numbers("do_job") == [1]


@pytest.mark.usefixtures("deadly")
def test_an_expired_message_of_a_dead_worker_is_dropped(delivery: Delivery) -> None:
    jobs("die")
    with pytest.raises(Death):
        delivery.handle_stored("app.Job")
    sql("UPDATE pgpubsub_sql_notification SET expires_at = clock_timestamp()")
    drain(delivery)
    assert not stored()


@pytest.mark.usefixtures("deadly")
def test_abandoned_messages_are_accounted_for_before_others_are_claimed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning for all of them, with their number."""
    caplog.set_level(logging.WARNING)
    jobs(*["die"] * 3)
    assert outlive(Job) == 4
    records = [one for one in caplog.records if hasattr(one, "count")]
    assert [(one.channel, one.count) for one in records] == [("app.Job", 3)]  # type: ignore[attr-defined]
    assert {row.attempts for row in stored().values()} == {1}
