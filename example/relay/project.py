"""A project of the demo: its PostgreSQL, its processes, and what its tables say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg2

from pgpubsub_sql.embedded import Server

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 20.0


class Project:
    """A context manager: the project *name*, migrated, with processes of ``manage.py``."""

    def __init__(self, name: str, servers: list[str]) -> None:
        self.name = name
        self._servers = servers
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.server = self._stack.enter_context(Server())
        try:
            self.log = self._stack.enter_context(tempfile.TemporaryFile())
            self.manage("migrate", "--run-syncdb", "--verbosity", "0")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            self.end(process)
        self._stack.close()

    def manage(self, *arguments: str) -> None:
        """Run a command; raise :class:`subprocess.CalledProcessError` if it fails."""
        command = [sys.executable, "-m", "django", *arguments]
        subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment(),
            check=True,
            stdout=self.log,
            stderr=self.log,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command that goes on until :meth:`end`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            process_group=0,  # Ctrl-C is for the demo, which then ends this one
        )
        self._processes.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Let a process finish what it has in hand."""
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill(process)

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """End a process and its children as a crash would."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def connect(self) -> Any:
        """Return a connection of psycopg2."""
        return psycopg2.connect(
            host=self.server.host, user=self.server.user, dbname=self.server.dbname
        )

    def rows(self, statement: str) -> list[Any]:
        """Return what *statement* finds."""
        connection = self.connect()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
        return (
            inherited
            | self.server.environment()
            | {
                "DJANGO_SETTINGS_MODULE": f"example.relay.{self.name}.settings",
                "NATS": " ".join(self._servers),
            }
        )
