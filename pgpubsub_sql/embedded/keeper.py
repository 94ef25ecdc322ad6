"""The process that creates, starts, stops and removes a server on its parent's behalf.

It runs with the standard library and this package only: see ``KEEPER_PROGRAM`` in ``protocol``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Self

from pgpubsub_sql.embedded.cluster import open_cluster
from pgpubsub_sql.embedded.posix import STOP_SIGNALS, ignore_signal
from pgpubsub_sql.embedded.protocol import ORDERS, Mode, ServerConfig, send_report
from pgpubsub_sql.embedded.workspace import Workspace, open_workspace
from pgpubsub_sql.errors import ServerError

_CHILD_ENDED, _STOP = b"", b"s"


def keep(text: str) -> None:
    """Run the server that *text* describes, a ``ServerConfig`` as JSON, until told to stop."""
    config = ServerConfig(**json.loads(text))
    inbox = _Inbox(config.parent)
    try:
        with (
            open_workspace(config) as workspace,
            open_cluster(workspace) as (data, log),
            _Postmaster(workspace, data, log) as postmaster,
        ):
            _obey(inbox, postmaster)
    except (OSError, ServerError, subprocess.SubprocessError) as error:
        send_report(failed=str(error))


def _obey(inbox: _Inbox, postmaster: _Postmaster) -> None:
    again = True
    while again:
        order = inbox.next_order()
        if order == _CHILD_ENDED:
            postmaster.report_exit()
            continue
        again, mode = ORDERS[order]
        postmaster.stop(mode)
        if again:
            postmaster.start()


class _Inbox:
    """Orders from the parent; its death is an order to stop, and so is a signal."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        for number in (signal.SIGCHLD, *STOP_SIGNALS):
            signal.signal(number, ignore_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def next_order(self) -> bytes:
        # The pipe stays open as long as a process that the parent forked has a copy of it, so the
        # parent's id is looked at once a second as well.
        while os.getppid() == self._parent:
            ready, _, _ = select.select([0, self._signals], [], [], 1)
            if 0 in ready:
                return os.read(0, 1) or _STOP
            if ready:
                return _STOP if STOP_SIGNALS & {*os.read(self._signals, 64)} else _CHILD_ENDED
        return _STOP


class _Postmaster:
    """The server's process: at most one at a time, stopped at the end."""

    def __init__(self, workspace: Workspace, data: Path, log: Path) -> None:
        self._workspace = workspace
        self._log = log
        self._command = _server_command(workspace, data)
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
                **self._workspace.process_options(),
            )
        host = str(self._workspace.host)
        send_report(pid=self._process.pid, host=host, log=str(self._log))

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
            send_report(exited=code)

    def _escalation(self, mode: Mode) -> list[tuple[signal.Signals, float]]:
        """Return the signals to try in turn, and how many seconds to wait after each."""
        patience = self._workspace.config.shutdown_timeout
        immediate = [(signal.SIGQUIT, patience), (signal.SIGKILL, 10.0)]
        return immediate if mode == "immediate" else [(signal.SIGINT, patience), *immediate]


def _server_command(workspace: Workspace, data: Path) -> list[str]:
    ours = {"listen_addresses": "", "unix_socket_permissions": "0700"}
    settings = workspace.config.settings | ours
    return [
        *(str(workspace.binaries / "postgres"), "-D", str(data)),
        *("-k", str(workspace.host), "-p", str(workspace.config.port)),
        *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
    ]
