"""What a supervisor decides: when successors start, what signals request. No process is started."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from pgpubsub_sql.retry import LONGEST_SECONDS, Backoff
from pgpubsub_sql.worker.processes import Process
from pgpubsub_sql.worker.shutdown import GRACE_SECONDS, Lifeline, Shutdown, signals_held
from pgpubsub_sql.worker.supervisor import Supervisor, WorkerOptions, _Slot
from tests.conftest import Listen, eventually
from tests.early import signalled_before_it_listens

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


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


def test_a_signal_between_the_handlers_kills_no_process_that_ends() -> None:
    reader, writer = os.pipe()
    call = f"from tests.early import *; signalled_while_it_ends({reader})"
    child = subprocess.Popen([sys.executable, "-c", call], pass_fds=[reader])
    assert child.wait(30) == 0
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
    supervisor._lifeline = Lifeline(reader=0, supervisor=1, pulses=0)
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
    supervisor._lifeline = Lifeline(reader=0, supervisor=1, pulses=0)
    slot = _Slot(0)
    supervisor._start(slot)
    assert slot.restart_at is not None
