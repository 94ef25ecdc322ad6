"""Deaths of worker processes, and who comes after."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from pgpubsub_sql import notify
from pgpubsub_sql.worker.supervisor import Supervisor, WorkerOptions
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, numbers, sql, stored, waiting
from tests.processes.support import alive, free, hastened_until_done, workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def test_a_killed_worker_is_replaced_and_its_messages_handled_once(listen: Start) -> None:
    """P8: one successor, not several; messages in flight are handled once."""
    listener = listen("--channels", "app.Job").ready()
    with listeners_wait():
        jobs("wait", "good", "good")
        eventually(waiting)
        os.kill(workers(listener)[0], signal.SIGKILL)
        eventually(lambda: listener.log.count("Listening to") == 2)
    eventually(hastened_until_done)
    assert sorted(numbers("do_job")) == [1, 2, 3]
    assert "Worker 0 died with exit code -9 (SIGKILL); its successor starts in 0 s" in listener.log
    assert len(workers(listener)) == 2
    assert listener.stop() == 0


def test_the_others_go_on_when_one_dies(listen: Start) -> None:
    listener = listen("--channels", "app.Job", "--processes", "2").ready(2)
    with listeners_wait():
        jobs("wait")
        eventually(waiting)
        notify(Job(number=2))
        eventually(lambda: numbers("do_job") == [2])
        for pid in workers(listener):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: listener.log.count("Listening to") == 4)
    eventually(hastened_until_done)
    assert sorted(numbers("do_job")) == [1, 2]


def test_a_message_that_kills_its_worker_does_not_cause_rapid_restarts(listen: Start) -> None:
    """P8: in the peer four errors made six processes of two."""
    jobs("die")
    listener = listen("--channels", "app.Job", "--processes", "2").ready()
    eventually(lambda: hastened_until_done() or "successor starts in 2 s" in listener.log)
    sql("DELETE FROM pgpubsub_sql_notification")
    eventually(lambda: listener.log.count("died with") == len(workers(listener)) - 2)
    assert sum(map(alive, workers(listener))) == 2
    notify(Job(number=5))
    eventually(lambda: numbers("do_job") == [5])
    assert listener.stop() == 0
    assert not any(map(alive, workers(listener)))


def test_a_planned_restart_does_not_delay_the_end(listen: Start) -> None:
    jobs("die")
    listener = listen("--channels", "app.Job")
    eventually(lambda: hastened_until_done() or "successor starts in 2 s" in listener.log)
    assert listener.stop() == 0


def test_no_restart_on_failure_means_no_successor(listen: Start) -> None:
    jobs("die")
    listener = listen("--channels", "app.Job", "--no-restart-on-failure")
    assert listener.process.wait(30) == 1
    assert len(workers(listener)) == 1
    assert "died with exit code 7; it will not be replaced" in listener.log
    assert free() == 1


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize("drain", [True, False])
def test_all_workers_end_if_a_first_worker_cannot_start(
    method: str, drain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """F35: rather than to fail again and again."""
    options = WorkerOptions(channels=("nobody.declares.This",), drain=drain)
    assert Supervisor(options, processes=2, start_method=method).run() == 1
    assert "cannot start; the reason is above" in caplog.text
    assert ("use --worker-start-method fork" in caplog.text) == (method == "spawn")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_end_when_their_supervisor_is_killed(listen: Start, method: str) -> None:
    """P17: no process is left, and the message in flight is finished."""
    jobs("wait")
    with listeners_wait():
        arguments = ("--channels", "app.Job", "--processes", "2", "--worker-start-method", method)
        listener = listen(*arguments).ready(2)
        eventually(waiting)
        listener.stop(signal.SIGKILL)
        eventually(lambda: sum(map(alive, workers(listener))) == 1)
    eventually(lambda: not any(map(alive, workers(listener))))
    assert numbers("do_job") == [1]
    assert not stored()


def test_a_signal_during_the_start_is_not_forgotten(listen: Start) -> None:
    """P17: neither lost nor answered with a traceback."""
    listener = listen("--channels", "app.Job", "--processes", "2")
    eventually(lambda: len(workers(listener)) == 2)
    os.killpg(listener.process.pid, signal.SIGINT)
    assert listener.process.wait(30) == 0, listener.log
    assert "Traceback" not in listener.log
    assert not any(map(alive, workers(listener)))


def test_the_log_level_reaches_the_workers(listen: Start) -> None:
    """P17."""
    jobs("good", "bad")
    listener = listen(
        "--channels", "app.Job", "--loglevel", "error", "--logformat", "<%(message)s>"
    )
    eventually(lambda: "bad mood" in listener.log)
    assert listener.stop() == 0
    assert "Listening to" not in listener.log
    assert "<Notification " in listener.log
