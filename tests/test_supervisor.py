"""The life of worker processes: signals, deaths, and who comes after."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pgpubsub_sql import notify
from pgpubsub_sql.retry import LONGEST_SECONDS, Backoff
from pgpubsub_sql.worker.processes import Process
from pgpubsub_sql.worker.shutdown import GRACE_SECONDS, Lifeline, Shutdown, signals_held
from pgpubsub_sql.worker.supervisor import Supervisor, WorkerOptions, _Slot
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.delivery.sending import hasten, jobs
from tests.early import signalled_before_it_listens
from tests.ledger import listeners_wait, numbers, sql, stored, waiting

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def workers(listen: Listen) -> list[int]:
    """Return the process ids of the workers that were ever started, in order."""
    return [int(pid) for pid in re.findall(r"started as process (\d+)", listen.log)]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def free() -> int:
    """Return how many stored notifications are in nobody's hands."""
    return len(sql("SELECT 1 FROM pgpubsub_sql_notification FOR UPDATE SKIP LOCKED"))


def hastened_until_done() -> bool:
    """Do not wait until it is time to try again; say whether all is done."""
    hasten()
    sql("SELECT pg_notify('app.Job', '')")
    return not stored()


# --- Without a process


def test_a_successor_starts_at_once_then_later_and_later() -> None:
    """P8: a worker that cannot live does not make a storm of forks."""
    slot = _Slot(0, started=time.monotonic())
    assert [slot.plan_restart() for _ in range(8)] == [0, 2, 4, 8, 16, 30, 30, 30]
    slot.started -= 31
    assert slot.plan_restart() == 0


def test_a_worker_may_die_any_number_of_times() -> None:
    """F25: after 1,024 deaths a power of two no longer fits into a float."""
    slot = _Slot(0, started=time.monotonic())
    assert max(slot.plan_restart() for _ in range(3000)) == 30


def test_delays_grow_and_are_bounded() -> None:
    backoff = Backoff()
    delays = [backoff.fail() for _ in range(3000)]
    assert 0.05 <= delays[0] <= 0.1
    assert 0.4 <= delays[3] <= 0.8
    assert max(delays) <= LONGEST_SECONDS
    assert Backoff().fail() <= 0.1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_requests_to_stop_and_ends_waiting(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Shutdown() as shutdown:
        assert not shutdown.is_requested()
        os.kill(os.getpid(), number)
        assert shutdown.wait(timeout=30) == []
        assert shutdown.requests == 1
    assert signal.getsignal(number) is before


def test_signals_that_come_together_are_one_request() -> None:
    """F34: whoever signals the process and its group does not want to abort."""
    started = time.monotonic()
    with Shutdown() as shutdown:
        for number in (signal.SIGTERM, signal.SIGINT) * 3:
            signal.raise_signal(number)
        assert shutdown.requests == 1
        eventually(lambda: signal.raise_signal(signal.SIGTERM) or shutdown.requests == 2)
    assert time.monotonic() - started >= GRACE_SECONDS


def test_a_request_to_stop_needs_no_signal() -> None:
    """F54: Python handles none outside the main thread."""
    shutdown = Shutdown()
    entered = threading.Event()

    def wait() -> None:
        with shutdown:
            entered.set()
            shutdown.wait(timeout=30)

    thread = threading.Thread(target=wait)
    thread.start()
    assert entered.wait(30)
    assert not shutdown.is_requested()
    shutdown.request()
    thread.join(30)
    assert not thread.is_alive()
    assert shutdown.is_requested()


def test_another_signal_ends_the_wait_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with Shutdown() as shutdown:
            os.kill(os.getpid(), signal.SIGUSR1)
            shutdown.wait(timeout=30)
            started = time.monotonic()
            shutdown.wait(timeout=0.2)
            assert time.monotonic() - started >= 0.19
            assert not shutdown.is_requested()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize(("number", "asked"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_during_the_start_is_held_until_the_process_is_ready(
    method: str, number: signal.Signals, asked: int
) -> None:
    """P17: neither lost nor deadly. Ctrl-C is for the parent."""
    reader, writer = os.pipe()
    arguments = [int(number), reader]
    with signals_held():
        if method == "fork":
            fork = multiprocessing.get_context("fork")
            process = fork.Process(target=signalled_before_it_listens, args=arguments)
            process.start()
        else:
            call = f"from tests.early import *; signalled_before_it_listens(*{arguments})"
            child = subprocess.Popen([sys.executable, "-c", call], pass_fds=[reader])
    if method == "fork":
        process.join(30)
        assert process.exitcode == asked
    else:
        assert child.wait(30) == asked
    os.close(reader)
    os.close(writer)


def test_a_worker_is_started_with_signals_held_back() -> None:
    """P17."""
    blocked: set[int] = set()

    def start(*arguments: object) -> Process:
        blocked.update(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        return subprocess.Popen(["true"])

    supervisor = Supervisor(WorkerOptions(channels=()), processes=1)
    supervisor._starter = start
    supervisor._lifeline = Lifeline(reader=0, supervisor=1)
    slot = _Slot(0)
    supervisor._start(slot)
    assert blocked >= {signal.SIGTERM, signal.SIGINT}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGINT}
    eventually(lambda: slot.reap() == 0)


def test_a_worker_that_cannot_be_started_is_started_later() -> None:
    """Memory is short for a moment; the others go on meanwhile."""

    def start(*arguments: object) -> Process:
        raise BlockingIOError("no more processes")

    supervisor = Supervisor(WorkerOptions(channels=()), processes=1)
    supervisor._starter = start
    supervisor._lifeline = Lifeline(reader=0, supervisor=1)
    slot = _Slot(0)
    supervisor._start(slot)
    assert slot.restart_at is not None


# --- Shutdown: messages in flight are finished, the rest is released


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
    eventually(lambda: ends_within_a_second(listener.process, signal.SIGTERM))
    assert listener.process.returncode == 1
    assert not alive(worker)


def ends_within_a_second(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    return process.returncode is not None


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
        eventually(lambda: "to finish the messages in flight" in listener.log)
        eventually(lambda: ends_within_a_second(listener.process, signal.SIGINT))
        assert listener.process.returncode == 1
        assert not any(map(alive, workers(listener)))
    eventually(lambda: free() == 2)
    assert not numbers("do_job")
    assert {row.attempts for row in stored().values()} == {0}


# --- Deaths, and who comes after


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
