"""The life of worker processes: signals, deaths, and who comes after."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pgpubsub_sql import notify
from pgpubsub_sql.worker.backoff import LONGEST_SECONDS, Backoff
from pgpubsub_sql.worker.stopping import Stopping, held_back
from pgpubsub_sql.worker.supervisor import Plan, Supervisor, _Slot
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


def test_delays_grow_and_are_bounded() -> None:
    backoff = Backoff()
    delays = [backoff.fail() for _ in range(3000)]
    assert 0.05 <= delays[0] <= 0.1
    assert 0.4 <= delays[3] <= 0.8
    assert max(delays) <= LONGEST_SECONDS
    assert Backoff().fail() <= 0.1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_reason_to_stop_and_ends_waiting(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stopping() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping.wait(timeout=30) == []
        assert stopping.asked == 1
        os.kill(os.getpid(), number)
        stopping.wait(timeout=30)
        assert stopping.asked == 2
    assert signal.getsignal(number) is before


def test_another_signal_wakes_it_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with Stopping() as stopping:
            os.kill(os.getpid(), signal.SIGUSR1)
            stopping.wait(timeout=30)
            started = time.monotonic()
            stopping.wait(timeout=0.2)
            assert time.monotonic() - started >= 0.19
            assert not stopping()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize(("number", "asked"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_waits_until_a_process_is_ready_for_it(
    method: str, number: signal.Signals, asked: int
) -> None:
    """P17: neither lost nor deadly. Ctrl-C is for the parent."""
    target = signalled_before_it_listens
    process = multiprocessing.get_context(method).Process(target=target, args=[int(number)])
    with held_back():
        process.start()
    process.join(30)
    assert process.exitcode == asked


def test_a_worker_is_started_with_signals_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """P17."""
    blocked: set[int] = set()

    class Process:
        pid = 1

        def __init__(self, **options: object) -> None: ...

        def start(self) -> None:
            blocked.update(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    supervisor = Supervisor(Plan(channels=()), processes=1)
    monkeypatch.setattr(supervisor, "_context", SimpleNamespace(Process=Process))
    supervisor._start(_Slot(0))
    assert blocked >= {signal.SIGTERM, signal.SIGINT}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGINT}


# --- Stopping: the message in hand is finished, the rest is given back


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
def test_the_first_signal_lets_the_message_in_hand_finish(
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
            eventually(lambda: "to finish what is in hand" in listener.log)
    assert listener.process.wait(30) == 0, listener.log
    if "2" not in arguments:  # two that start at once may share the batch
        assert numbers("do_job") == [1]
    assert 1 in numbers("do_job"), listener.log
    assert sorted([*numbers("do_job"), *stored()]) == [1, 2, 3, 4, 5, 6]
    assert {row.attempts for row in stored().values()} == {0}
    assert "Traceback" not in listener.log
    assert not any(map(alive, workers(listener)))


def ends_within_a_second(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    return process.returncode is not None


@pytest.mark.parametrize("mood", ["hang", "wait"])
def test_the_second_signal_aborts_a_worker_on_its_own(listen: Start, mood: str) -> None:
    """Also one that waits in the driver; the server lets go of what it had in hand."""
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
        eventually(lambda: "to finish what is in hand" in listener.log)
        assert listener.stop(signal.SIGINT) == 1
        assert not any(map(alive, workers(listener)))
    eventually(lambda: free() == 2)
    assert not numbers("do_job")
    assert {row.attempts for row in stored().values()} == {0}


# --- Deaths, and who comes after


def test_a_killed_worker_is_replaced_and_its_messages_handled_once(listen: Start) -> None:
    """P8: one successor, not several; what was in hand is handled by somebody, once."""
    listener = listen("--channels", "app.Job").ready()
    with listeners_wait():
        jobs("wait", "good", "good")
        eventually(waiting)
        os.kill(workers(listener)[0], signal.SIGKILL)
        eventually(lambda: listener.log.count("Listening to") == 2)
    eventually(hastened_until_done)
    assert sorted(numbers("do_job")) == [1, 2, 3]
    assert "Worker 0 died with exit code -9; its successor starts in 0 s" in listener.log
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


def test_a_message_that_kills_its_worker_makes_no_storm(listen: Start) -> None:
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


def test_nobody_comes_after_if_that_is_wanted(listen: Start) -> None:
    jobs("die")
    listener = listen("--channels", "app.Job", "--no-restart-on-failure")
    assert listener.process.wait(30) == 1
    assert len(workers(listener)) == 1
    assert "died with exit code 7; it will not be replaced" in listener.log
    assert free() == 1


def test_nobody_goes_on_draining_where_no_message_is_to_blame() -> None:
    plan = Plan(channels=("nobody.declares.This",), drain=True)
    assert Supervisor(plan, processes=2, start_method="fork").run() == 1


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_end_when_their_supervisor_is_killed(listen: Start, method: str) -> None:
    """P17: nobody is left behind, and the message in hand is finished."""
    jobs("wait")
    with listeners_wait():
        arguments = ("--channels", "app.Job", "--processes", "2", "--worker-start-method", method)
        listener = listen(*arguments).ready(2)
        eventually(waiting)
        listener.stop(signal.SIGKILL)
        if method == "spawn":  # a fork holds its elder siblings' pipes: the youngest ends first
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
