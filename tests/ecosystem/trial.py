"""One package with one driver: its project, its database, its processes."""

from __future__ import annotations

import copy
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2

from tests.ecosystem.packages import ROOT, Package

HERE = Path(__file__).parent
WITHOUT_PSYCOPG3 = ROOT / "tests" / "conformance" / "without_psycopg3"
DEADLINE_SECONDS = 90.0
EXPECTED = "shop.listeners.Mishap: "


class Failure(Exception):
    """What a package has brought about, in one line; *details* are for who wants to mend it."""

    def __init__(self, problem: str, details: str = "") -> None:
        super().__init__(problem)
        self.details = details


def eventually(condition: Callable[[], object], problem: Callable[[], str]) -> None:
    """Wait until *condition* holds; raise :class:`Failure` if it does not come to that."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(problem())
        time.sleep(0.05)


class Trial:
    """A copy of the project in *directory*, run by *python* with *driver*.

    It speaks to the server by *address*; the trial itself, as somebody who has but SQL, directly.
    """

    def __init__(
        self,
        package: Package,
        driver: str,
        directory: Path,
        python: Path,
        *,
        address: Mapping[str, str],
        direct: Mapping[str, str],
    ) -> None:
        self.package = package
        self.directory = directory
        self.schema = ""
        """The tenant that commands are run for, and that SQL is said to."""
        self._python = python
        self._logs = 0
        self._worker: Worker | None = None
        self._address = dict(address)
        self._direct = direct
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(HERE / "project", directory)
        paths = [WITHOUT_PSYCOPG3] if driver == "psycopg2" else []
        self._environment = {
            **os.environ,
            **package.variables,
            **self._address,
            "PATH": os.pathsep.join((str(python.parent), os.environ.get("PATH", ""))),
            "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT])),
            "DJANGO_SETTINGS_MODULE": f"settings.{package.settings}",
        }

    def within(self, schema: str) -> Trial:
        """Return the same for a tenant."""
        tenant = copy.copy(self)
        tenant.schema = schema
        return tenant

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute *statement* as somebody who knows no Django."""
        names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
        connection = psycopg2.connect(**{names[key]: self._direct[key] for key in names})
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                if self.schema:
                    cursor.execute("SELECT set_config('search_path', %s, false)", [self.schema])
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def manage(self, *arguments: str) -> None:
        """Run a command of the project, which must succeed."""
        status, text = self._run(arguments)
        if status != 0:
            raise Failure(f"{arguments[0]} exits with {status}: {reason(text)}", text)

    def refuses(self, *arguments: str, because: str) -> None:
        """Run a command of the project, which must say *because*, and fail."""
        status, text = self._run(arguments)
        if status == 0 or because not in text:
            problem = f"{arguments[0]} exits with {status} and does not say {because!r}"
            raise Failure(problem, text)

    def _run(self, arguments: tuple[str, ...]) -> tuple[int, str]:
        log = self.directory / f"{arguments[0]}.log"
        process = self._start(arguments, log)
        try:
            status = process.wait(3 * DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"{arguments[0]} does not end", log.read_text()) from None
        finally:
            kill(process)
        return status, log.read_text(errors="replace")

    @contextmanager
    def listening(
        self, *arguments: str, until: str = "Listening to", times: int = 1
    ) -> Iterator[Worker]:
        """Have ``manage.py listen`` run meanwhile; it must end well when it is asked to."""
        self._logs += 1
        log = self.directory / f"listen-{self.schema}{self._logs}.log"
        worker = self._worker = Worker(self._start(("listen", *arguments), log), log)
        try:
            worker.await_log(until, times)
            yield worker
            worker.stop()
        except Failure as failure:
            failure.details = failure.details or worker.text
            raise
        finally:
            kill(worker.process)
            self._worker = None

    def wait(self, condition: Callable[[], object], problem: Callable[[], str]) -> None:
        """Wait until *condition* holds, as long as a worker that runs has no trouble."""

        def holds() -> bool:
            if self._worker:
                self._worker.check()
            return bool(condition())

        eventually(holds, problem)

    def _start(self, arguments: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
        prefix, suffix = self.package.prefix, ("--schema", self.schema)
        command = (*prefix, *arguments, *suffix) if self.schema else arguments
        with log.open("wb") as output:
            return subprocess.Popen(
                [*self.package.wrapper, str(self._python), "manage.py", *command],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class Worker:
    """A process that listens, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def await_log(self, line: str, times: int = 1) -> None:
        """Wait until it has written *line* so many times."""

        def has_come() -> bool:
            if self.process.poll() is not None:
                problem = f"listen ended with {self.process.returncode}: {reason(self.text)}"
                raise Failure(problem, self.text)
            return self.text.count(line) >= times

        eventually(has_come, lambda: f"listen did not write {line!r}: {reason(self.text)}")

    def stop(self) -> None:
        """Stop it as a service manager does, and look at its log."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure("listen goes on after SIGTERM", self.text) from None
        if status != 0:
            raise Failure(f"listen, stopped, exits with {status}", self.text)
        self.check()

    def check(self) -> None:
        """See that it has logged no error but those of the listeners that were to fail."""
        text = self.text
        for error in raised(text):
            if not error.startswith(EXPECTED):
                raise Failure(error, text)
        if died := re.search(".*died with exit code.*", text):
            raise Failure(died[0], text)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of it behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def raised(text: str) -> list[str]:
    """Return the first line of each exception whose traceback is in *text*."""
    traces = text.split("Traceback (most recent call last):\n")[1:]
    ends = (re.search(r"^\S.*", trace, re.MULTILINE) for trace in traces)
    return [end[0] for end in ends if end]


def reason(text: str) -> str:
    """Return the line of *text* that most likely says why a command failed."""
    lines = raised(text) or [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it has written nothing"
