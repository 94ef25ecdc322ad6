"""``manage.py listen`` as a process of its own, and what it says."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
PATIENCE_SECONDS = 20.0
_CHUNK = 1 << 16
_EXPECTED = re.compile(
    r"\d+ INFO |\d+ ERROR Worker \d+ died with exit code -9\b"
    r"|\d+ WARNING Notifications of channel \S+ were in flight in a transaction"
)
"""News, and what a worker that is killed has others log."""


class ListeningError(Exception):
    """``manage.py listen`` has ended by itself."""


class Listening:
    """``manage.py listen`` with *processes* workers, until the end of the ``with`` block."""

    def __init__(self, processes: int) -> None:
        self.lines: list[str] = []
        """What it has logged, each line after the number of its process."""
        self._command = [sys.executable, str(MANAGE), "listen", "--processes", str(processes)]
        self._command += ["--logformat", "%(process)d %(levelname)s %(message)s"]

    def __enter__(self) -> Self:
        # A file without a name: it needs no thread to be read, and nothing can leave it behind.
        self._log = tempfile.TemporaryFile()
        self._position, self._rest = 0, ""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C is for the demo, which then ends this process in its own time.
            process_group=0,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._log.close()

    def stop(self) -> None:
        """Let the workers finish what they have in hand, and end."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._read()

    def kill(self, pid: int) -> None:
        """End a worker as a crash would: nothing of its own can clean up."""
        os.kill(pid, signal.SIGKILL)

    def workers(self) -> list[int]:
        """Return the processes that have said that they listen, in this order.

        Raises :class:`ListeningError`, with what was logged last, if the command has ended.
        """
        status = self._process.poll()
        self._read()
        if status is not None:
            last = "\n".join(self.lines[-15:])
            raise ListeningError(f"manage.py listen has ended with status {status}:\n{last}")
        said = (re.match(r"(\d+) INFO Listening to ", line) for line in self.lines)
        return list(dict.fromkeys(int(match[1]) for match in said if match))

    def problems(self) -> list[str]:
        """Return what was logged that is neither news nor about a worker that was killed."""
        self._read()
        return [line for line in self.lines if not _EXPECTED.match(line)]

    def _read(self) -> None:
        # Not by seek(): the position of the file is where the other processes write.
        while data := os.pread(self._log.fileno(), _CHUNK, self._position):
            self._position += len(data)
            *lines, self._rest = (self._rest + data.decode(errors="replace")).split("\n")
            self.lines += lines
