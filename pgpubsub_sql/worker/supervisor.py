"""The parent of the workers: starts them, restarts what dies, passes signals on."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import sys
import time
from multiprocessing.process import BaseProcess

import django
from django.db import connections

from pgpubsub_sql.channels import find_channel
from pgpubsub_sql.logs import JSONFormatter
from pgpubsub_sql.worker.connecting import close_pool
from pgpubsub_sql.worker.stopping import Stopping, held_back
from pgpubsub_sql.worker.worker import Worker

logger = logging.getLogger("pgpubsub_sql.supervisor")

LONGEST_RESTART_SECONDS = 30.0
NOTICED_SECONDS = 1.0
"""Within this time the server lets go of what a dead worker had in hand."""
DRAINED = 64
"""Exit status of a worker that has drained: a listener may end its process with any usual one."""
MESSAGES_FAILED = 65
"""Exit status of a worker that has drained, and of whose messages some failed."""
FAILED = 1
"""Exit status of a worker that could not work, as Python has it for an exception."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What each worker process is told."""

    channels: tuple[str, ...]
    """Dotted paths of the channels to listen to."""
    database: str = "default"
    """Alias of the database."""
    drain: bool = False
    """Handle what is stored, then end."""
    loglevel: str | None = None
    """A level of :mod:`logging`; None for info, or what the project's LOGGING says."""
    logformat: str = "%(asctime)s %(levelname)s %(processName)s[%(process)d] %(message)s"
    """A format of :mod:`logging`."""
    json_logs: bool = False
    """Log JSON objects instead."""
    name: str = ""
    """What the workers are called in the log, and on the server; empty for nothing of their own."""

    def process_name(self, number: int | None = None) -> str:
        """Return the name of a worker's process, or of the one on its own or above them."""
        name = self.name or "listen"
        return name if number is None else f"{name}-{number}"


def configure_logging(plan: Plan) -> None:
    """Write to standard error as *plan* says, unless the project's LOGGING has handlers."""
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if plan.json_logs else logging.Formatter(plan.logformat))
    logging.basicConfig(handlers=[handler], level=(plan.loglevel or "info").upper())
    if plan.loglevel:
        logging.getLogger("pgpubsub_sql").setLevel(plan.loglevel.upper())


def work(plan: Plan) -> int:
    """Run one worker in this process; return its exit status."""
    configure_logging(plan)
    channels = [find_channel(path) for path in plan.channels]
    name = multiprocessing.current_process().name if plan.name else ""
    worker = Worker(channels, using=plan.database, name=name)
    if plan.drain:
        return DRAINED if worker.drain() else MESSAGES_FAILED
    worker.run()
    return 0


def _child(plan: Plan) -> None:
    django.setup()
    sys.exit(work(plan))


class Supervisor:
    """Keeps *processes* workers running until it is told to stop.

    A worker that dies is replaced: at once the first time, then after a growing delay while its
    successors die young, too. One that drains is replaced unless it failed to work at all, and not
    before the server has let go of what it had in hand. Told to stop, it lets the workers finish
    what they have in hand; told twice, it kills them, and PostgreSQL takes back what they had in
    hand.
    """

    def __init__(
        self, plan: Plan, *, processes: int, start_method: str = "spawn", restart: bool = True
    ) -> None:
        self.plan = plan
        self.restart = restart
        self.failed = False
        """Whether a worker ended otherwise than it should."""
        self._context = multiprocessing.get_context(start_method)
        self._slots = [_Slot(number) for number in range(processes)]

    def run(self) -> int:
        """Supervise until all workers have ended; return the exit status for the process."""
        with Stopping() as stopping:
            try:
                for slot in self._slots:
                    self._start(slot)
                while not stopping() and self._pending():
                    self._step(stopping)
                self._let_finish(stopping)
            finally:
                self._kill()
        return int(self.failed)

    def _pending(self) -> bool:
        return any(slot.process or slot.restart_at is not None for slot in self._slots)

    def _running(self) -> dict[int, _Slot]:
        """Return the slots that have a process, by what becomes readable when it ends."""
        return {slot.process.sentinel: slot for slot in self._slots if slot.process}

    def _step(self, stopping: Stopping) -> None:
        """Wait until something happens to a worker, and do what it asks for."""
        running = self._running()
        planned = [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        timeout = max(0.0, min(planned) - time.monotonic()) if planned else None
        for sentinel in stopping.wait(running, timeout):
            self._ended(running[sentinel])
        for slot in self._slots:
            if slot.restart_at is not None and slot.restart_at <= time.monotonic():
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_child,
            args=(self.plan,),
            name=self.plan.process_name(slot.number),
        )
        _close_connections()
        with held_back():
            process.start()
        slot.process, slot.restart_at, slot.started = process, None, time.monotonic()
        logger.info("Worker %s started as process %s", slot.number, process.pid)

    def _ended(self, slot: _Slot) -> None:
        code = slot.join()
        if code in (DRAINED, MESSAGES_FAILED) and self.plan.drain:
            self.failed = self.failed or code == MESSAGES_FAILED
            return
        self.failed = self.failed or self.plan.drain or not self.restart
        delay = self._plan_restart(slot, code)
        logger.error(
            "Worker %s died with exit code %s; %s",
            slot.number,
            code,
            "it will not be replaced" if delay is None else f"its successor starts in {delay:g} s",
        )

    def _plan_restart(self, slot: _Slot, code: int | None) -> float | None:
        """Return the seconds until a successor starts; None if nobody comes after."""
        if not self.restart or (self.plan.drain and code == FAILED):
            return None
        return slot.plan_restart(least=NOTICED_SECONDS if self.plan.drain else 0.0)

    def _let_finish(self, stopping: Stopping) -> None:
        """Ask all workers to stop, and wait for them, unless asked to stop once more."""
        asked = self._running()
        for slot in asked.values():
            slot.terminate()
        if asked:
            workers = "1 worker" if len(asked) == 1 else f"{len(asked)} workers"
            logger.info("Waiting for %s to finish what is in hand", workers)
        while (running := self._running()) and stopping.asked < 2:
            for sentinel in stopping.wait(running):
                self._finished(running[sentinel])

    def _finished(self, slot: _Slot) -> None:
        code = slot.join()
        self.failed = self.failed or code not in (0, DRAINED)
        if code not in (0, DRAINED, MESSAGES_FAILED):
            logger.error("Worker %s died with exit code %s while it stopped", slot.number, code)

    def _kill(self) -> None:
        """Leave no worker behind, whatever brought us here."""
        for slot in self._running().values():
            logger.error("Worker %s is killed; what it had in hand is given back", slot.number)
            slot.kill()
            self.failed = True


def _close_connections() -> None:
    """Leave nothing open, which a fork would share."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        close_pool(connection)


@dataclasses.dataclass
class _Slot:
    """The place of one worker, which outlives its processes."""

    number: int
    process: BaseProcess | None = None
    started: float = 0.0
    restart_at: float | None = None
    deaths: int = 0
    """How many processes in a row have died young."""

    def plan_restart(self, least: float = 0.0) -> float:
        """Set when the successor starts; return the seconds until then, *least* at least."""
        lived = time.monotonic() - self.started
        self.deaths = 0 if lived > LONGEST_RESTART_SECONDS else self.deaths + 1
        delay = 0.0 if self.deaths <= 1 else min(LONGEST_RESTART_SECONDS, 0.5 * 2**self.deaths)
        delay = max(delay, least)
        self.restart_at = time.monotonic() + delay
        return delay

    def join(self) -> int | None:
        """Wait for the end of the process, and return its exit code."""
        assert self.process is not None  # noqa: S101
        self.process.join()
        code, self.process = self.process.exitcode, None
        return code

    def terminate(self) -> None:
        """Ask the process to stop."""
        assert self.process is not None  # noqa: S101
        self.process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        assert self.process is not None  # noqa: S101
        self.process.kill()
        self.join()
