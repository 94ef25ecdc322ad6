"""Processes whose Python has imported Django already: that takes half a second of processor."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

PROGRAM = Path(__file__).with_name("forked.py")
MANAGE = """
import sys
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""


class Preloaded:
    """``manage.py`` in a session of its own, with the interface of :class:`subprocess.Popen`."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[bytes]
    ) -> None:
        directory = _server()
        request = {
            "argv": [str(directory / "manage.py"), *arguments],
            "directory": str(cwd),
            "environment": dict(env),
            "new_session": True,
        }
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(directory / "address"))
        with open(os.devnull, "rb") as nothing:
            files = [nothing.fileno(), output.fileno(), output.fileno()]
            socket.send_fds(self._connection, [b"\n"], files)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = b""
        self.pid = self._answer(None)

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status, as soon as it has ended."""
        if self.returncode is None:
            self.returncode = self._answer(timeout)
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # ended just now
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _answer(self, timeout: float | None) -> int:
        """Return a number that the server sends in a line of its own."""
        self._connection.settimeout(timeout)
        while b"\n" not in self._answers:
            try:
                received = self._connection.recv(100)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired("manage.py", timeout or 0.0) from None
            assert received, "The server of preloaded processes has ended."
            self._answers += received
        line, _, self._answers = self._answers.partition(b"\n")
        return int(line)


@cache
def _server() -> Path:
    """Start a server for all tests of this process; return the directory of its address."""
    stack = ExitStack()
    atexit.register(stack.close)
    # From Python 3.13 on, a process that multiprocessing forks forgets what is done at exit; so it
    # would be rid of a TemporaryDirectory, and remove it.
    directory = Path(mkdtemp())
    stack.callback(shutil.rmtree, directory)
    (directory / "manage.py").write_text(MANAGE)
    stack.enter_context(_serving(directory / "address", dict(os.environ)))
    return directory


@contextmanager
def preloaded_python(directory: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Yield where a program ``python`` is, whose ``manage.py`` need not import Django first.

    Each ``python manage.py`` is a process of its own, forked by a server that has imported what all
    commands import. Anything else is Python itself.
    """
    python, address = directory / "python", directory / "address"
    run = [sys.executable, "-I", "-S", str(PROGRAM), "run", str(address)]
    python.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = manage.py ] && exec {shlex.join(run)} "$@"\n'
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    with _serving(address, environment):
        yield directory


@contextmanager
def _serving(address: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run the server at *address*, a socket."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(100)
        number = listening.fileno()
        with subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), "serve", str(number)],
            env=environment,
            stdin=subprocess.PIPE,  # it ends with it
            pass_fds=[number],
            start_new_session=True,
        ):
            listening.close()  # else clients would wait for a server that has failed
            yield
