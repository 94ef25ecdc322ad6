"""Signals to real workers: messages in flight are finished, the rest is released."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from django.db import transaction

from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, numbers, sql, stored, waiting
from tests.processes.support import abort, alive, ends_within_a_second, free, workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def one_process(listen: Listen, number: signal.Signals) -> None:
    os.kill(listen.process.pid, number)


def whole_group(listen: Listen, number: signal.Signals) -> None:
    os.killpg(listen.process.pid, number)


@pytest.mark.parametrize(
    ("arguments", "send", "number"),
    [
        (["--worker"], one_process, signal.SIGINT),
        (["--worker-start-method", "fork"], one_process, signal.SIGINT),
        (["--processes", "2"], whole_group, signal.SIGINT),  # as Ctrl-C in a terminal
        (["--processes", "2"], whole_group, signal.SIGTERM),  # as systemd does
    ],
)
@pytest.mark.parametrize("mood", ["wait", "hang"])
def test_the_first_signal_lets_the_message_in_flight_finish(
    listen: Start,
    arguments: list[str],
    send: Callable[..., None],
    number: signal.Signals,
    mood: str,
) -> None:
    """P17: whether it waits in the driver, where Python notices no signal, or in Python."""
    jobs(mood, *["good"] * 5)
    with listeners_wait():
        listener = listen("--channels", "app.Job", *arguments)
        eventually(lambda: waiting() or "this listener hangs" in listener.log)
        if "2" in arguments:
            listener.ready(2)
        send(listener, number)
        if "--worker" not in arguments:
            eventually(lambda: "to finish the messages in flight" in listener.log)
    assert listener.process.wait(30) == 0, listener.log
    if "2" not in arguments:  # two that start at once may share the batch
        assert numbers("do_job") == [1]
    assert 1 in numbers("do_job"), listener.log
    assert sorted([*numbers("do_job"), *stored()]) == [1, 2, 3, 4, 5, 6]
    assert {row.attempts for row in stored().values()} == {0}
    assert "Traceback" not in listener.log
    assert not any(map(alive, workers(listener)))


@pytest.mark.parametrize("arguments", [["--worker"], []])
def test_a_signal_while_it_looks_at_the_database_keeps_it_from_starting(
    listen: Start, arguments: list[str]
) -> None:
    with transaction.atomic():
        sql("LOCK TABLE pgpubsub_sql_notification")
        listener = listen("--channels", "app.Job", *arguments)
        eventually(
            lambda: sql("SELECT pid FROM pg_locks WHERE locktype = 'relation' AND NOT granted")
        )
        one_process(listener, signal.SIGTERM)
    assert listener.process.wait(30) == 0, listener.log
    assert "Listening to" not in listener.log


@pytest.mark.parametrize("arguments", [["--worker"], [], ["--worker-start-method", "fork"]])
def test_signalling_the_process_and_its_group_does_not_abort(
    listen: Start, arguments: list[str]
) -> None:
    """F34: as `timeout`, shells and service managers do, one signal right after the other."""
    jobs("wait", "good")
    with listeners_wait():
        listener = listen("--channels", "app.Job", *arguments)
        eventually(waiting)
        one_process(listener, signal.SIGTERM)
        eventually(lambda: "To abort, send the signal again after 1 s" in listener.log)
        whole_group(listener, signal.SIGTERM)
    assert listener.process.wait(30) == 0, listener.log
    assert sorted([*numbers("do_job"), *stored()]) == [1, 2]
    assert 1 in numbers("do_job")


def test_the_second_signal_ends_a_worker_that_does_not_react(listen: Start) -> None:
    """F38: stopped here, as it would be by a network that has fallen silent. Nothing else has to
    happen for `listen` to end."""
    listener = listen("--channels", "app.Job").ready()
    (worker,) = workers(listener)
    os.kill(worker, signal.SIGSTOP)
    listener.process.send_signal(signal.SIGTERM)
    abort(listener, signal.SIGTERM)
    assert listener.process.returncode == 1
    assert not alive(worker)


@pytest.mark.parametrize("mood", ["hang", "wait"])
def test_the_second_signal_aborts_a_worker_on_its_own(listen: Start, mood: str) -> None:
    """Also one that waits in the driver; the server rolls back its transaction."""
    jobs(mood, "good")
    with listeners_wait():
        listener = listen("--channels", "app.Job", "--worker")
        eventually(lambda: waiting() or "this listener hangs" in listener.log)
        # Two signals at once may count as one, so the second is sent until it is heard.
        eventually(lambda: ends_within_a_second(listener.process, signal.SIGTERM))
        eventually(lambda: free() == 2)
    assert listener.process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert not numbers("do_job")


def test_the_second_signal_aborts_workers_under_a_supervisor(listen: Start) -> None:
    jobs("wait", "wait")
    with listeners_wait():
        listener = listen("--channels", "app.Job", "--processes", "2").ready(2)
        eventually(waiting)
        listener.process.send_signal(signal.SIGTERM)
        abort(listener, signal.SIGINT)
        assert listener.process.returncode == 1
        assert not any(map(alive, workers(listener)))
    eventually(lambda: free() == 2)
    assert not numbers("do_job")
    assert {row.attempts for row in stored().values()} == {0}
