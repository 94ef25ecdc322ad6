"""The server as its users see it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pgpubsub_sql.embedded.binaries import find_binaries
from pgpubsub_sql.embedded.cluster import tail
from pgpubsub_sql.embedded.protocol import (
    Mode,
    ServerConfig,
    next_report,
    send_order,
    start_keeper,
)
from pgpubsub_sql.errors import ServerError


class Server:
    """A PostgreSQL server, throw-away or persistent; a context manager.

    ::

        with Server(data_dir="var/postgres") as server:
            subprocess.run(["psql"], env=os.environ | server.environment())
    """

    host: str
    """Directory of the unix socket; ``stop()`` and ``start()`` keep it."""
    port: int = 5432
    user: str = "postgres"
    dbname: str = "postgres"
    bin_dir: Path
    """Where ``initdb`` and ``postgres`` were found."""
    log: Path | None
    """The server's log: kept in ``data_dir`` if persistent, otherwise removed with the server."""
    pid: int | None
    """Process id of the running server."""

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        settings: Mapping[str, str | int | float] | None = None,
        bin_dir: Path | str | None = None,
        start_timeout: float = 60.0,
        shutdown_timeout: float = 10.0,
    ) -> None:
        """Describe a server; ``start()`` or ``with`` starts it.

        ``data_dir`` is created if its parent exists. ``settings`` are PostgreSQL's, such as
        ``{"fsync": "off"}``; the default ones make the server durable. Timeouts are in seconds;
        a server that has not stopped after ``shutdown_timeout`` is killed.

        Raises ``ServerError`` if PostgreSQL's programs are not found.
        """
        self.data_dir = Path(data_dir).absolute() if data_dir is not None else None
        self.bin_dir = Path(bin_dir).absolute() if bin_dir is not None else find_binaries()
        self.settings = {name: str(value) for name, value in (settings or {}).items()}
        self.start_timeout = start_timeout
        self.shutdown_timeout = shutdown_timeout
        self.host = ""
        self.log = None
        self.pid = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """Return ``PGHOST``, ``PGPORT``, ``PGUSER`` and ``PGDATABASE``, for any PostgreSQL client.

        Raises ``ServerError`` if the server was never started.
        """
        if not self.host:
            raise ServerError("The server has no address until it has been started.")
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.dbname,
        }

    def start(self) -> None:
        """Initialise the cluster if necessary, start the server and wait until it answers.

        Raises ``ServerError``, with the end of the server's log, if the server exits or does not
        answer within ``start_timeout`` seconds, or if ``data_dir`` is in use.
        """
        if self._keeper is not None:
            raise ServerError("The server has already been started.")
        self._owner = os.getpid()
        self._keeper = start_keeper(self._config())
        try:
            self._await_answer(self._keeper)
        except BaseException:
            self.stop()
            raise

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server and remove its temporary files; ``immediate`` skips the checkpoint.

        Does nothing if the server is not running, or in a forked child: it is the parent's server.

        Raises ``ServerError`` if files may be left behind; the message says where.
        """
        if self._keeper is None or self._owner != os.getpid():
            return
        keeper, self._keeper, self.pid = self._keeper, None, None
        send_order(keeper, False, mode)
        with keeper:  # closes the pipes, which is an order to stop, too
            code = _wait_or_kill(keeper, 2 * self.shutdown_timeout + 30)
        if code != 0:
            self._clean_up_after_keeper(code)

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server, start it again on the same data and wait until it answers.

        Every connection is lost. ``immediate`` is like a crash: the server recovers from its WAL.

        Raises ``ServerError`` if the server is not running, or as ``start()`` does.
        """
        if self._keeper is None:
            raise ServerError("The server is not running.")
        send_order(self._keeper, True, mode)
        self._await_answer(self._keeper)

    def _config(self) -> ServerConfig:
        return ServerConfig(
            bin_dir=str(self.bin_dir),
            data_dir=str(self.data_dir) if self.data_dir else None,
            host=self.host,
            temporary=tempfile.gettempdir(),
            port=self.port,
            user=self.user,
            settings=self.settings,
            start_timeout=self.start_timeout,
            shutdown_timeout=self.shutdown_timeout,
            parent=self._owner,
        )

    def _await_answer(self, keeper: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_timeout
        self._await_process(keeper, deadline)
        socket_path = f"{self.host}/.s.PGSQL.{self.port}"
        while not _answers(socket_path, self.user, self.dbname):
            report = next_report(keeper, 0.02)
            if "exited" in report:
                raise ServerError(
                    f"The server exited with code {report['exited']}.{self._log_tail()}"
                )
            if time.monotonic() > deadline:
                waited = f"{self.start_timeout:g} seconds"
                raise ServerError(f"The server did not answer within {waited}.{self._log_tail()}")

    def _await_process(self, keeper: subprocess.Popen[bytes], deadline: float) -> None:
        report: dict[str, Any] = {}
        while "pid" not in report:  # the exit of the previous process may be reported first
            report = next_report(keeper, deadline - time.monotonic())
            if not report:
                raise ServerError(
                    f"The server did not start within {self.start_timeout:g} seconds."
                )
        self.pid, self.host, self.log = report["pid"], report["host"], Path(report["log"])

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            if self.log is not None:
                text = self.log.read_text(encoding="utf-8", errors="replace")
                return tail(text, f"The end of its log, {self.log}")
        return " Its log cannot be read."

    def _clean_up_after_keeper(self, code: int) -> None:
        """Remove the files of a keeper that was killed; on Linux its server was stopped with it."""
        if code > 0 or sys.platform != "linux":
            raise ServerError(
                f"The keeper of {self.host} exited with {code}. Files and processes may be left."
            )
        lock = (self.data_dir or Path(self.host, "data")) / "postmaster.pid"
        deadline = time.monotonic() + self.shutdown_timeout
        while lock.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.host, ignore_errors=True)


def _answers(path: str, user: str, dbname: str) -> bool:
    """Open a session without a driver, and end it properly: only a ready server grants one.

    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
    """
    names = f"user\0{user}\0database\0{dbname}\0\0".encode()
    start_up = struct.pack("!ii", 8 + len(names), 3 << 16) + names
    ready, terminate = b"Z\0\0\0\5I", b"X\0\0\0\4"
    received = b""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        connection.sendall(start_up)
        while not received.endswith(ready) and (chunk := connection.recv(4096)):
            received += chunk
        connection.sendall(terminate)
    return received.endswith(ready)


def _wait_or_kill(process: subprocess.Popen[bytes], timeout: float) -> int:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
