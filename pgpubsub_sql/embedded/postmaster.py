"""The server's process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Self

from pgpubsub_sql.embedded.protocol import Mode, report
from pgpubsub_sql.embedded.site import Site


class Postmaster:
    """The server's process: one at a time, stopped at the end."""

    def __init__(self, site: Site, data: Path, log: Path) -> None:
        self._site = site
        self._log = log
        self._command = _server_command(site, data)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("fast")

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._site.options(),
            )
        report(pid=self._process.pid, host=str(self._site.host), log=str(self._log))

    def stop(self, mode: Mode) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number, patience in self._escalation(mode):
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return

    def report_exit(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            report(exited=code)

    def _escalation(self, mode: Mode) -> list[tuple[signal.Signals, float]]:
        patience = self._site.plan.shutdown_timeout
        immediate = [(signal.SIGQUIT, patience), (signal.SIGKILL, 10.0)]
        return immediate if mode == "immediate" else [(signal.SIGINT, patience), *immediate]


def _server_command(site: Site, data: Path) -> list[str]:
    ours = {"listen_addresses": "", "unix_socket_permissions": "0700"}
    settings = site.plan.settings | ours
    return [
        *(str(site.binaries / "postgres"), "-D", str(data)),
        *("-k", str(site.host), "-p", str(site.plan.port)),
        *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
    ]
