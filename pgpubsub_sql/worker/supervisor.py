"""The supervisor: starts workers, restarts those that die, and stops them."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from django.db import connections

from pgpubsub_sql.django_internals import close_pool
from pgpubsub_sql.worker.connections import hang_up
from pgpubsub_sql.worker.forks import in_forks
from pgpubsub_sql.worker.health import UNINSTALLED, Answers, Endpoint, Slow
from pgpubsub_sql.worker.processes import ExitStatus, Process, WorkerOptions, fork, spawn
from pgpubsub_sql.worker.shutdown import HOW_TO_ABORT, Lifeline, Shutdown, signals_held
from pgpubsub_sql.worker.watch import Watch

logger = logging.getLogger("pgpubsub_sql.supervisor")

LONGEST_RESTART_SECONDS = 30.0
NOTICED_SECONDS = 1.0
"""Within this time the server rolls back the transaction of a worker that has died."""
LOOK_SECONDS = 1.0
"""Longest time until a death is noticed outside the main thread, which alone gets SIGCHLD."""

STARTERS = {"spawn": spawn, "fork": fork}

SPAWNED = (
    " A spawned worker is a new process with the settings module, sys.path, sys.argv and "
    "environment of this one. If it needs anything else that manage.py or the command around "
    "`listen` has set up, use --worker-start-method fork, or --worker."
)


class Supervisor:
    """Keeps *processes* workers running until it is told to stop.

    A worker that has reached one of its limits is replaced at once.

    A worker that dies is replaced: at once the first time, then after a growing delay while its
    successors die young, too. A worker that drains is replaced unless it could not work at all, and
    not before the server has rolled back its transaction. If a first worker cannot start, all
    workers end.

    Told to stop, the supervisor lets the workers finish the messages in flight, for at most
    *shutdown_timeout* seconds if that is given. After that, or told twice, it kills them, and
    PostgreSQL rolls back their transactions.
    """

    def __init__(
        self,
        options: WorkerOptions,
        *,
        processes: int,
        start_method: str = "spawn",
        restart: bool = True,
        shutdown_timeout: float | None = None,
        endpoint: Endpoint | None = None,
        metrics: Slow | None = None,
    ) -> None:
        self.options = options
        self.restart = restart
        self._shutdown_seconds = math.inf if shutdown_timeout is None else shutdown_timeout
        self.failed = False
        """Whether a worker has failed."""
        self._starter = STARTERS[start_method]
        self._slots = [_Slot(number) for number in range(processes)]
        self._is_hopeless = False
        self._metrics = metrics or Slow(lambda: UNINSTALLED)
        answers: Answers = {"/metrics": self._metrics}
        self._watch = Watch(processes, options.channels, endpoint, answers)
        self._display = options.display(self._watch.pulses, processes)

    def run(self) -> int:
        """Supervise until all workers have ended; return the exit status for the process."""
        for connection in connections.all(initialized_only=True):
            hang_up(connection)  # forks must neither share it nor find it in an engine's pool
            close_pool(connection)
        pulses = self._watch.pulses.fd
        with (
            self._watch,
            _lifeline(pulses) as self._lifeline,
            Shutdown(awaits_children=True) as shutdown,
            ExitStack() as stack,
        ):
            try:
                for slot in self._slots:
                    self._start(slot)
                stack.enter_context(self._display)  # later, as it has a thread
                while not shutdown.is_requested() and self._pending():
                    self._step(shutdown)
                self._let_finish(shutdown)
            finally:
                self._kill()
        return int(self.failed)

    def _pending(self) -> bool:
        planned = any(slot.process or slot.restart_at is not None for slot in self._slots)
        return planned and not self._is_hopeless

    def _running(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.process]

    def _step(self, shutdown: Shutdown) -> None:
        """Wait until a worker ends or is due to start, and react."""
        planned = [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        next_start = min(planned, default=float("inf")) - time.monotonic()
        for slot, code in self._wait(shutdown, next_start):
            self._ended(slot, code)
        for slot in self._slots:
            if slot.restart_at is not None and slot.restart_at <= time.monotonic():
                self._restart(slot)

    def _wait(self, shutdown: Shutdown, seconds: float = LOOK_SECONDS) -> list[tuple[_Slot, int]]:
        """Wait, not for long; return the workers that have ended, each with its exit code."""
        self._watch.wait(shutdown, max(0.0, min(seconds, LOOK_SECONDS)))
        ended = list(self._reap())
        for slot, _ in ended:
            self._watch.forget(slot.number)
        for slot in self._running():
            if reason := self._watch.why_kill(slot.number):
                logger.error("Worker %s %s. It is killed.", slot.number, reason)
                slot.send_kill()
        return ended

    def _restart(self, slot: _Slot) -> None:
        """Start a worker again, unless that is a fork and not possible right now."""
        with self._display.silent() as one, self._metrics.silent() as other:
            if (one and other) or self._starter is not fork:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        self._watch.forget(slot.number)
        try:
            with signals_held():
                slot.start(self._starter(self.options, slot.number, self._lifeline))
        except OSError as error:  # no memory, or too many processes
            message = "Worker %s cannot be started: %s; trying again in %g s"
            logger.error(message, slot.number, error, slot.plan_restart())
        else:
            logger.info("Worker %s started as process %s", slot.number, slot.pid)

    def _reap(self) -> Iterator[tuple[_Slot, int]]:
        """Reap the workers that have ended; yield each with its exit code."""
        # Wait for the process, not for a pipe to close: processes that a listener has forked hold
        # the pipe, too, and may outlive the worker.
        for slot in self._running():
            if (code := slot.reap()) is not None:
                yield slot, code
        if os.getpid() == 1:
            _reap_orphans({slot.pid for slot in self._running()})

    def _ended(self, slot: _Slot, code: int) -> None:
        if self.options.drain and code in (ExitStatus.DONE, ExitStatus.MESSAGES_FAILED):
            self.failed = self.failed or code == ExitStatus.MESSAGES_FAILED
            return
        if code == ExitStatus.SPENT:
            slot.renew()
            return
        if code == ExitStatus.UNFIT and slot.is_first:
            self.failed = self._is_hopeless = True
            hint = SPAWNED if self._starter is spawn else ""
            message = "Worker %s cannot start; the reason is above. Stopping all workers.%s"
            logger.critical(message, slot.number, hint)
            return
        self.failed = self.failed or self.options.drain or not self.restart
        delay = self._plan_restart(slot, code)
        logger.error(
            "Worker %s died with exit code %s; %s",
            slot.number,
            _in_words(code),
            "it will not be replaced" if delay is None else f"its successor starts in {delay:g} s",
        )

    def _plan_restart(self, slot: _Slot, code: int) -> float | None:
        """Return the seconds until a successor starts; None if there is none."""
        if not self.restart or (self.options.drain and code in set(ExitStatus)):
            return None
        return slot.plan_restart(least=NOTICED_SECONDS if self.options.drain else 0.0)

    def _let_finish(self, shutdown: Shutdown) -> None:
        """Ask all workers to stop; wait for them until the timeout or the second request."""
        until = time.monotonic() + self._shutdown_seconds
        asked = self._running()
        self._watch.stop()
        for slot in asked:
            slot.terminate()
        if asked:
            workers = "1 worker" if len(asked) == 1 else f"{len(asked)} workers"
            message = "Waiting for %s to finish the messages in flight. %s"
            logger.info(message, workers, HOW_TO_ABORT)
        while self._running() and shutdown.requests < 2 and time.monotonic() < until:
            for slot, code in self._wait(shutdown, until - time.monotonic()):
                self._finished(slot, code)
            for slot in self._running():  # again: a listener may have ignored the signal
                slot.terminate()

    def _finished(self, slot: _Slot, code: int) -> None:
        is_good = code in (ExitStatus.DONE, ExitStatus.SPENT)
        self.failed = self.failed or not is_good
        if not is_good and code != ExitStatus.MESSAGES_FAILED:
            message = "Worker %s died with exit code %s while stopping"
            logger.error(message, slot.number, _in_words(code))

    def _kill(self) -> None:
        """Kill the workers that still run, whatever the reason."""
        for slot in self._running():
            message = (
                "Killing worker %s before it has finished; PostgreSQL rolls back its messages in "
                "flight, and the next worker handles them"
            )
            logger.error(message, slot.number)
            slot.kill()
            self.failed = True


@dataclasses.dataclass
class _Slot:
    """The place of one worker, which outlives its processes."""

    number: int
    process: Process | None = None
    pid: int | None = None
    is_first: bool = True
    """Whether this is its first process."""
    started: float = 0.0
    restart_at: float | None = None
    deaths: int = 0
    """Number of processes in a row that have died young."""

    def start(self, process: Process) -> None:
        """Take over a process that was just started."""
        self.process, self.pid = process, process.pid
        self.started, self.restart_at = time.monotonic(), None

    def renew(self) -> None:
        """Schedule a successor now, as the process has not died."""
        self.is_first, self.restart_at = False, time.monotonic()

    def plan_restart(self, least: float = 0.0) -> float:
        """Schedule the successor; return the seconds until it starts, at least *least*."""
        lived = time.monotonic() - self.started
        self.is_first = False
        self.deaths = 0 if lived > LONGEST_RESTART_SECONDS else self.deaths + 1
        delay = least
        if self.deaths > 1:
            delay = max(least, min(LONGEST_RESTART_SECONDS, 0.5 * 2 ** min(self.deaths, 10)))
        self.restart_at = time.monotonic() + delay
        return delay

    def reap(self) -> int | None:
        """Reap the process if it has ended; return its exit code, or None."""
        assert self.process is not None  # noqa: S101
        if (code := self.process.poll()) is not None:
            self.process = None
        return code

    def terminate(self) -> None:
        """Ask the process to stop."""
        assert self.process is not None  # noqa: S101
        self.process.terminate()

    def send_kill(self) -> None:
        """Kill the process. It has to be reaped."""
        assert self.process is not None  # noqa: S101
        self.process.kill()

    def kill(self) -> None:
        """Kill the process, and wait for its end."""
        assert self.process is not None  # noqa: S101
        self.process.kill()
        self.process.wait()
        self.process = None


def _in_words(code: int) -> str:
    """Return an exit code, with the name of the signal it stands for."""
    with suppress(ValueError):
        return f"{code} ({signal.Signals(-code).name})"
    return str(code)


@contextmanager
def _lifeline(pulses: int) -> Iterator[Lifeline]:
    """Open a pipe whose writing end this process alone holds until it ends."""
    reader, writer = os.pipe()
    with in_forks(lambda: os.close(writer)):
        yield Lifeline(reader=reader, supervisor=os.getpid(), pulses=pulses)
    os.close(reader)
    os.close(writer)


def _reap_orphans(own: set[int | None]) -> None:
    """As process 1 of a container, reap processes whose parent has ended, except our *own*."""
    ended = os.WEXITED | os.WNOHANG
    with suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, ended | os.WNOWAIT)) and found.si_pid not in own:
            os.waitpid(found.si_pid, 0)
