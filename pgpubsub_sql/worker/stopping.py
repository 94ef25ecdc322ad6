"""One reason to stop, whichever way it comes: a signal, or the death of the parent process."""

from __future__ import annotations

import multiprocessing
import signal
import socket
from collections.abc import Iterable
from multiprocessing.connection import wait
from types import FrameType, TracebackType
from typing import Any


class Stopping:
    """A context manager that turns SIGTERM and SIGINT into a flag and something to wait on.

    ::

        with Stopping() as stopping:
            while not stopping():
                stopping.wait([sock], timeout=5)

    The first signal asks to finish what is in hand; a second one has its default effect and
    ends the process. Inside a process started by ``multiprocessing`` the end of the parent
    counts as the first signal. To be entered in the main thread, as signals are set.
    """

    signals = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._stopping = False
        self._previous: dict[signal.Signals, Any] = {}
        parent = multiprocessing.parent_process()
        self._parent = [parent.sentinel] if parent else []

    def __enter__(self) -> Stopping:
        self._awake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._stop) for number in self.signals}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._awake.close()
        self._waker.close()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._stopping

    def wait(self, objects: Iterable[Any] = (), timeout: float | None = None) -> list[Any]:
        """Wait until one of *objects* is readable, *timeout* seconds are over, or it is time to
        stop; return the objects that are ready."""
        if self._stopping:
            return []
        ready = wait([*objects, self._awake, *self._parent], timeout)
        if self._parent and self._parent[0] in ready:
            self._stopping = True
        return [one for one in ready if one is not self._awake and one not in self._parent]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        signal.signal(number, signal.SIG_DFL)
