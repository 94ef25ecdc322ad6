"""A message that its worker dies of: charged by the supervisor, retried alone, parked."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable

import pytest

from pgpubsub_sql import Notification
from pgpubsub_sql.worker.charging import charge_for_death
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.hand import Hand
from tests.app import listeners
from tests.app.channels import Job
from tests.app.listeners import called
from tests.conftest import Listen, eventually
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import listeners_wait, numbers, sql, stored, stranger, waiting

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def any_alone() -> bool:
    """Whether something has been charged for what it had undone."""
    return Notification.objects.filter(alone=True).exists()


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("mood", "how"), [("die", "exit code 7"), ("kill", "SIGKILL"), ("vanish", "exit code 0")]
)
def test_it_is_charged_and_its_neighbours_are_handled(
    listen: Start, processes: str, mood: str, how: str
) -> None:
    """P8: os._exit(), even with 0, and SIGKILL, as the kernel's when memory is short."""
    jobs("good", mood, "good")
    listener = listen("--channels", "app.Job", "--processes", processes)
    eventually(lambda: sorted(numbers("do_job")) == [1, 3] and any_alone())
    (row,) = stored().values()
    assert (row.payload["number"], row.alone) == (2, True)
    # A second worker may be quicker to take it than the supervisor is to charge it.
    assert 1 <= row.attempts <= int(processes)
    assert f"A worker died with {how} while it had this in hand" in row.last_error
    assert f"Notification {row.id} of channel app.Job, which a worker died of, will be retried" in (
        listener.log
    )
    assert listener.stop() == 0
    assert Notification.objects.waiting().exists()


def test_it_is_parked_in_the_end(listen: Start) -> None:
    """And no worker dies of it any more."""
    jobs("die")
    Notification.objects.update(attempts=8)
    listener = listen("--channels", "app.Job")
    eventually(lambda: hasten() or Notification.objects.parked().exists())
    (row,) = stored().values()
    assert row.attempts == 10
    assert "which a worker died of, is parked" in listener.log
    jobs("good")
    eventually(lambda: numbers("do_job") == [1])
    assert listener.log.count("died with") == 2


def test_the_server_notices_a_death_while_it_runs_a_query(listen: Start) -> None:
    """Without being told, it would hold the rows for as long as the query takes."""
    jobs("wait", "good")
    listener = listen("--channels", "app.Job")
    with listeners_wait():
        eventually(waiting)
        pid = int(listener.log.partition("started as process ")[2].split()[0])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: numbers("do_job") == [2] and any_alone())
        (row,) = stored().values()
        assert (row.payload["number"], row.attempts) == (1, 1)


def test_draining_goes_on_without_it_and_tells(listen: Start) -> None:
    """It has been tried, and is put off as whatever fails; the rest is handled."""
    jobs("good", "die", "good")
    listener = listen("--channels", "app.Job", "--drain")
    assert listener.process.wait(30) == 1, listener.log
    assert numbers("do_job") == [1, 3]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1}
    assert not Notification.objects.ready().exists()


# --- Without a process


def test_nobody_is_charged_for_what_is_not_there() -> None:
    """Another worker may have handled it since."""
    charge_for_death(1, -9, using="default")
    assert not stored()


def test_a_channel_that_is_not_known_has_the_usual_policy() -> None:
    sql("SELECT pgpubsub_notify('nobody.Knows', '{}')")
    (row,) = Notification.objects.all()
    charge_for_death(row.id, None, using="default")
    (row,) = Notification.objects.all()
    assert (row.attempts, row.alone) == (1, True)


def test_a_charge_that_is_hindered_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor waits for a row, though not for ever, and goes on."""
    jobs("good")
    (row,) = stored().values()
    caplog.set_level(logging.WARNING)
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM pgpubsub_sql_notification FOR UPDATE")
        charge_for_death(row.id, -9, using="default")
    (record,) = caplog.records
    assert record.notification_id == row.id  # type: ignore[attr-defined]
    assert f"Notification {row.id}, of which a worker may have died, cannot be charged" in (
        record.getMessage()
    )
    assert stored()[1].attempts == 0


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_hand_is_seen_after_the_death_of_its_process(method: str) -> None:
    context = multiprocessing.get_context(method)
    hand = Hand(context)
    assert hand.id is None
    process = context.Process(target=hand.take, args=[2**62])  # type: ignore[attr-defined]
    process.start()
    process.join()
    assert hand.id == 2**62
    hand.clear()
    assert hand.id is None


@pytest.mark.parametrize("mood", ["good", "bad", "close", "terminate"])
def test_a_hand_is_empty_between_messages(transactional_db: None, mood: str) -> None:
    """Whoever dies there has died of nothing."""
    hand = Hand()
    delivery = Delivery([Job], using="default", hand=hand)
    jobs("good", mood)
    drain(delivery)
    assert called
    assert hand.id is None


def test_what_nobody_catches_is_a_death(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a timeout of gevent's: it ends the worker, and its message is what it died of."""

    class OfAnotherKind(BaseException):
        pass

    def leave() -> None:
        raise OfAnotherKind

    hand = Hand()
    delivery = Delivery([Job], using="default", hand=hand)
    monkeypatch.setitem(listeners.MOODS, "bad", leave)
    jobs("good", "bad", "good")
    with pytest.raises(OfAnotherKind):
        delivery.handle_stored("app.Job")
    assert hand.id == stored()[2].id
    assert sorted(stored()) == [1, 2, 3]
    assert not numbers("do_job")


def test_a_hand_holds_what_is_handled(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, seen = Hand(), []
    monkeypatch.setitem(listeners.MOODS, "good", lambda: seen.append(hand.id))
    jobs("good", "good")
    ids = [row.id for row in stored().values()]
    drain(Delivery([Job], using="default", hand=hand))
    assert seen == sorted(ids)
