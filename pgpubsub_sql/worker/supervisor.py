"""The parent of the workers: starts them, restarts what dies, passes signals on."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import signal
import time
from multiprocessing.process import BaseProcess

import django
from django.db import connections

from pgpubsub_sql.channels import find_channel
from pgpubsub_sql.worker.stopping import Stopping
from pgpubsub_sql.worker.worker import Worker

logger = logging.getLogger("pgpubsub_sql.supervisor")

LONGEST_RESTART_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What each worker process is told."""

    channels: tuple[str, ...]
    """Dotted paths of the channels to listen to."""
    database: str = "default"
    """Alias of the database."""
    drain: bool = False
    """Handle what is stored, then end."""
    loglevel: str = "INFO"
    """A level of :mod:`logging`."""
    logformat: str = "%(asctime)s %(levelname).4s %(process)d %(message)s"
    """A format of :mod:`logging`."""


def work(plan: Plan) -> None:
    """Run one worker in this process."""
    logging.basicConfig(format=plan.logformat, level=plan.loglevel.upper())
    worker = Worker([find_channel(path) for path in plan.channels], using=plan.database)
    if plan.drain:
        worker.drain()
    else:
        worker.run()


def _child(plan: Plan) -> None:
    # Ctrl-C reaches the whole foreground group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    django.setup()
    work(plan)


class Supervisor:
    """Keeps *processes* workers running until it is told to stop.

    A worker that dies is replaced: at once the first time, then after a growing delay while
    its successors die young, too. Draining workers are not replaced.
    """

    def __init__(
        self, plan: Plan, *, processes: int, start_method: str = "spawn", restart: bool = True
    ) -> None:
        self.plan = plan
        self.restart = restart and not plan.drain
        self.failed = False
        """Whether a worker ended otherwise than it should."""
        self._context = multiprocessing.get_context(start_method)
        self._slots: list[_Slot] = [_Slot(number) for number in range(processes)]

    def run(self) -> int:
        """Supervise until all workers have ended; return the exit status for the process."""
        connections.close_all()  # a fork must not share them
        with Stopping() as stopping:
            for slot in self._slots:
                self._start(slot)
            while not stopping() and self._pending():
                self._step(stopping)
            # From here on a second signal kills; daemonic children do not survive that.
            self._stop()
        return int(self.failed)

    def _pending(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.process or slot.restart_at is not None]

    def _step(self, stopping: Stopping) -> None:
        running = {slot.process.sentinel: slot for slot in self._slots if slot.process}
        planned = [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        timeout = max(0.0, min(planned) - time.monotonic()) if planned else None
        for sentinel in stopping.wait(running, timeout):
            self._ended(running[sentinel])
        for slot in self._slots:
            if slot.restart_at is not None and slot.restart_at <= time.monotonic():
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_child, args=(self.plan,), name=f"pgpubsub_process_{slot.number}"
        )
        process.start()
        slot.process, slot.restart_at, slot.started = process, None, time.monotonic()
        logger.info("Worker %s started as process %s", slot.number, process.pid)

    def _ended(self, slot: _Slot) -> None:
        assert slot.process is not None
        slot.process.join()
        code, slot.process = slot.process.exitcode, None
        if code == 0 and self.plan.drain:
            return
        self.failed = self.failed or not self.restart
        logger.error("Worker %s died with exit code %s", slot.number, code)
        if self.restart:
            slot.plan_restart()

    def _stop(self) -> None:
        running = [slot.process for slot in self._slots if slot.process]
        for process in running:
            process.terminate()
        for process in running:
            process.join()


@dataclasses.dataclass
class _Slot:
    """The place of one worker, which outlives its processes."""

    number: int
    process: BaseProcess | None = None
    started: float = 0.0
    restart_at: float | None = None
    deaths: int = 0

    def plan_restart(self) -> None:
        """Set when the successor starts."""
        lived = time.monotonic() - self.started
        self.deaths = 0 if lived > LONGEST_RESTART_SECONDS else self.deaths + 1
        delay = 0.0 if self.deaths <= 1 else min(LONGEST_RESTART_SECONDS, 0.5 * 2**self.deaths)
        self.restart_at = time.monotonic() + delay
