"""The server, as its users see it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pgpubsub_sql.embedded.binaries import find_binaries
from pgpubsub_sql.embedded.handshake import answers
from pgpubsub_sql.embedded.link import give_order, next_report, start_keeper, wait_or_kill
from pgpubsub_sql.embedded.log import tail_of
from pgpubsub_sql.embedded.protocol import Mode, Plan
from pgpubsub_sql.errors import ServerError


class Server:
    """A PostgreSQL server, throw-away or persistent; a context manager.

    ::

        with Server(data_dir="var/postgres") as server:
            subprocess.run(["psql"], env=os.environ | server.environment())
    """

    host: str
    """Directory of the unix socket. Stays the same over ``stop()`` and ``start()``."""
    port: int = 5432
    user: str = "postgres"
    dbname: str = "postgres"
    bin_dir: Path
    """Where ``initdb`` and ``postgres`` were found."""
    log: Path | None
    """The server's log: in ``data_dir`` and kept if persistent, else gone with the server."""
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

        ``data_dir`` is created if its parent exists. ``settings`` are server settings, e.g.
        ``{"fsync": "off"}``; without them the server is as durable as PostgreSQL's defaults.
        ``start_timeout`` and ``shutdown_timeout`` are seconds; a server that has not stopped after
        ``shutdown_timeout`` is stopped harder.

        Raises ``ServerError`` if there are no binaries.
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
            raise ServerError("The server has no address before it is started.")
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.dbname,
        }

    def start(self) -> None:
        """Initialise the cluster if need be, start the server and wait until it answers.

        Raises ``ServerError``, with the end of the server's log, if it does not answer within
        ``start_timeout`` seconds, exits, or if ``data_dir`` is in use.
        """
        if self._keeper is not None:
            raise ServerError("The server is already started.")
        self._owner = os.getpid()
        self._keeper = start_keeper(self._plan())
        try:
            self._await_answer(self._keeper)
        except BaseException:
            self.stop()
            raise

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server and remove what it left; ``immediate`` is without a checkpoint.

        Without effect if it is not started, and in a forked child (it is the parent's server).

        Raises ``ServerError`` if the cleaning up went wrong; the message names what may be left.
        """
        if self._keeper is None or self._owner != os.getpid():
            return
        keeper, self._keeper, self.pid = self._keeper, None, None
        give_order(keeper, False, mode)
        with keeper:  # closes the pipes, which is the same order once more
            code = wait_or_kill(keeper, 2 * self.shutdown_timeout + 30)
        if code != 0:
            self._clean_up_after_keeper(code)

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server, start it again on the same data and wait until it answers.

        Every connection is lost. ``immediate`` is a crash: the server recovers from its log.

        Raises ``ServerError`` if it is not started, or as ``start()`` does.
        """
        if self._keeper is None:
            raise ServerError("The server is not started.")
        give_order(self._keeper, True, mode)
        self._await_answer(self._keeper)

    def _plan(self) -> Plan:
        return Plan(
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
        socket = f"{self.host}/.s.PGSQL.{self.port}"
        while not answers(socket, self.user, self.dbname):
            report = next_report(keeper, 0.02)
            if "exited" in report:
                raise ServerError(f"The server exited with code {report['exited']}.{self._tail()}")
            if time.monotonic() > deadline:
                waited = f"{self.start_timeout:g} seconds"
                raise ServerError(f"The server does not answer after {waited}.{self._tail()}")

    def _await_process(self, keeper: subprocess.Popen[bytes], deadline: float) -> None:
        report: dict[str, Any] = {}
        while "pid" not in report:  # it may be preceded by the end of the previous process
            report = next_report(keeper, deadline - time.monotonic())
            if not report:
                raise ServerError(f"The server is not up after {self.start_timeout:g} seconds.")
        self.pid, self.host, self.log = report["pid"], report["host"], Path(report["log"])

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            if self.log is not None:
                text = self.log.read_text(encoding="utf-8", errors="replace")
                return tail_of(text, f"The end of its log, {self.log}")
        return " Its log cannot be read."

    def _clean_up_after_keeper(self, code: int) -> None:
        """Do the rest of the keeper's work: it was killed, and on Linux the server with it."""
        if code > 0 or sys.platform != "linux":
            raise ServerError(f"The keeper of {self.host} ended with {code}; files may be left.")
        lock = (self.data_dir or Path(self.host, "data")) / "postmaster.pid"
        deadline = time.monotonic() + self.shutdown_timeout
        while lock.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.host, ignore_errors=True)
