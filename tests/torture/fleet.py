"""The workers: several ``manage.py listen``, of which some are always dying."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pgpubsub_sql.channels import dotted_path
from pgpubsub_sql.worker.connections import LISTEN
from tests.conftest import Listen, eventually
from tests.ledger import sql
from tests.torture.channels import CHANNELS, NAMES
from tests.torture.stage import WORKER

SHAPES = (("--processes", "2"), ("--processes", "1"), ("--worker",))
"""Of two workers, of one, and of one that nobody restarts but we."""
ARGUMENTS = ("--loglevel", "info", "--json-logs", "--channels", *map(dotted_path, CHANNELS))

DEATHS = (-signal.SIGKILL, 7)
"""Exit codes of workers: of those that were killed, and of a deadly message."""
STOP_SECONDS = 75.0
"""Longest time until one has ended that is told to: it notices only after 30 s that a network is
silent, and then has to do so once more if it connects to the same network again."""
FELLED = -signal.SIGKILL
"""The exit status of a supervisor whose whole tree was killed by a message."""
DIED_LATE = re.compile(r"died with exit code (-9 \(SIGKILL\)|7) while stopping")
"""What a supervisor says that has to fail, as a calamity came when it was stopping already."""


class Unit:
    """One ``manage.py listen`` of a shape, and its successors."""

    def __init__(self, shape: tuple[str, ...], log: Path, environment: Mapping[str, str]) -> None:
        self.shape = shape
        self._environment = environment
        self.size = 2 if shape == SHAPES[0] else 1
        self.is_supervised = shape != SHAPES[2]
        self.logs: list[Path] = []
        self._log = log
        self.start()

    def start(self) -> None:
        """Start it, or its successor."""
        self.logs.append(self._log.with_suffix(f".{len(self.logs)}.log"))
        self.listen = Listen(self.logs[-1], *self.shape, *ARGUMENTS, **self._environment)

    def workers(self) -> list[int]:
        """Return the processes that work."""
        if not self.is_supervised:
            return [self.listen.process.pid]
        return [pid for pid, parent in _spawned() if parent == self.listen.process.pid]

    def ended(self) -> int | None:
        """Return its exit status, if it has ended."""
        return self.listen.process.poll()

    def ends_well(self, status: int | None) -> bool:
        """Whether it may end so without having been asked to."""
        has_died = status == FELLED or (not self.is_supervised and status in DEATHS)
        return has_died or bool(DIED_LATE.search(self.listen.log))


class Fleet:
    """Units of every shape; a context manager that leaves no process behind."""

    def __init__(self, directory: Path, network: Mapping[str, str]) -> None:
        self._directory = directory
        self._network = network
        """Where those find the server that are to find it over the network."""
        self.problems: list[str] = []
        """Ends that should not have come."""
        self._seen: set[int] = set()
        """Workers of supervisors that were killed."""

    def __enter__(self) -> Fleet:
        self.units = [
            Unit(shape, self._directory / f"listen-{number}", self._environment(number))
            for number, shape in enumerate(SHAPES)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for unit in self.units:
            unit.listen.kill()

    def workers(self) -> list[int]:
        """Return all processes that work."""
        return [pid for unit in self.units for pid in unit.workers()]

    def kill(self, unit: Unit) -> None:
        """Kill a supervisor or a lone worker. Its workers are to end by themselves."""
        self._seen.update(unit.workers())
        unit.listen.process.kill()
        unit.listen.process.wait()
        unit.start()

    def kill_tree(self, unit: Unit) -> None:
        """Kill a supervisor and all its workers at once, as a container's memory limit does."""
        unit.listen.kill()
        unit.start()

    def replace(self, unit: Unit) -> None:
        """Stop one as its operator would, and start another."""
        self._stop(unit)
        unit.start()

    def mend(self) -> None:
        """Start again what nobody else does; note what should not have ended."""
        for unit in self.units:
            if (status := unit.ended()) is not None:
                if not unit.ends_well(status):
                    self.problems.append(f"listen {unit.shape} ended by itself with {status}")
                unit.start()

    def await_all(self, within: float) -> None:
        """Wait until every worker listens, restarts after growing delays included."""
        size = sum(unit.size for unit in self.units)

        def are_back() -> bool:
            self.mend()
            return listening() == size

        eventually(are_back, within=within)

    def stop(self) -> None:
        """Stop all, as their operator would; note what stays."""
        for unit in self.units:
            self._stop(unit)
        try:
            eventually(lambda: not self._seen & {pid for pid, _ in _spawned()})
        except AssertionError:
            self.problems.append("Workers have outlived their supervisor")

    def logs(self) -> list[str]:
        """Return what each of them has logged."""
        return [log.read_text(errors="replace") for unit in self.units for log in unit.logs]

    def _environment(self, number: int) -> dict[str, str]:
        """All but the first unit are connected by the network. The last one has older code."""
        older = {"TORTURE_NAMES": str(len(NAMES) // 2)} if number == len(SHAPES) - 1 else {}
        return {"PGUSER": WORKER} | older | (dict(self._network) if number else {})

    def _stop(self, unit: Unit) -> None:
        has_begun = unit.listen.log != ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            unit.listen.stop(within=STOP_SECONDS)
        status = unit.ended()
        is_asked_for = status == 0 or (status == -signal.SIGTERM and not has_begun)
        if not is_asked_for and not unit.ends_well(status):
            self.problems.append(f"listen {unit.shape} ended with {status} instead of 0")
        unit.listen.kill()


def listening() -> int:
    """Return how many workers listen."""
    ((count,),) = sql(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE usename = %s AND starts_with(application_name, %s)",
        WORKER,
        LISTEN,
    )
    return int(count)


def signal_worker(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _spawned() -> list[tuple[int, int]]:
    """Return worker processes that a supervisor has spawned, each with its parent."""
    ps = ["ps", "-A", "-o", "pid=,ppid=,args="]
    listed = subprocess.run(ps, capture_output=True, text=True, check=True).stdout
    fields = (
        line.split(None, 2)
        for line in listed.splitlines()
        if "pgpubsub_sql.worker.processes" in line
    )
    return [(int(pid), int(parent)) for pid, parent, _ in fields]
