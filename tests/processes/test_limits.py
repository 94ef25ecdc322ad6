"""Workers that have done or grown enough, and those that take too long to end."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from django.db import transaction

from pgpubsub_sql import notify
from pgpubsub_sql.worker.limits import MEGABYTE, Limits, memory
from tests.app.channels import Shout
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, numbers, stored, waiting
from tests.processes.support import workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def test_a_limit_is_reached_by_number_or_by_size() -> None:
    assert Limits().reached(10**9) == ""
    counted = Limits(messages=10)
    assert counted.reached(9) == ""
    assert counted.reached(10) == "it has handled 10 messages, and --max-notifications is 10"
    assert Limits(memory=10**6).reached(9) == ""
    assert Limits(memory=1).reached(9).endswith(" MB of memory, and --max-memory is 1")
    assert Limits(messages=0, memory=0).reached(0) == ""


def test_memory_is_what_the_process_uses_now() -> None:
    before = memory()
    large = b"x" * (200 * MEGABYTE)
    assert memory() - before > 150 * MEGABYTE
    del large
    assert memory() - before < 100 * MEGABYTE


@pytest.mark.parametrize(
    ("limit", "moods", "words"),
    [
        (["--max-notifications", "2"], ["good"] * 2, "and --max-notifications is 2\n"),
        (["--max-memory", "1"], ["good"], " MB of memory, and --max-memory is 1\n"),
    ],
)
def test_a_worker_that_reaches_a_limit_is_replaced(
    listen: Start, limit: list[str], moods: list[str], words: str
) -> None:
    """It has not died: there is no delay, and nothing to report."""
    listener = listen("--channels", "app.Job", "--no-restart-on-failure", *limit).ready()
    for count in (1, 2, 3):
        jobs(*moods)
        eventually(lambda: not stored())
        listener.ready(count + 1)
    assert len(numbers("do_job")) == 3 * len(moods)
    assert "The worker ends and is replaced: it " in listener.log
    assert listener.log.count(words) == 3
    assert "died" not in listener.log
    assert len(workers(listener)) == 4
    assert listener.stop() == 0, listener.log


def test_what_it_has_received_is_handled_before_it_ends(listen: Start) -> None:
    """Nobody else would: it is stored nowhere."""
    listener = listen("--channels", "app.Shout", "--max-notifications", "1").ready()
    with transaction.atomic():
        for number in range(50):
            notify(Shout(number=number))
    listener.ready(2)
    assert numbers("hear_only_number") == list(range(50))


def test_workers_that_take_too_long_to_end_are_killed(listen: Start) -> None:
    listener = listen("--channels", "app.Job", "--shutdown-timeout", "1").ready()
    with listeners_wait():
        jobs("wait")
        eventually(waiting)
        listener.process.send_signal(signal.SIGTERM)
        assert listener.process.wait(30) == 1
    assert "Killing worker 0 before it has finished; PostgreSQL rolls back" in listener.log
    eventually(lambda: len(stored()) == 1)
