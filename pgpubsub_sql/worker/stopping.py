"""One reason to stop, whichever way it comes: a signal, or the death of the parent process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """A context manager that turns SIGTERM and SIGINT into a count and something to wait on.

    ::

        with Stopping() as stopping:
            while not stopping():
                stopping.wait([sock], timeout=5)

    Who is asked twice does one of three things:

    * a process on its own, made with ``then=signal.SIG_DFL``, ends on the spot, even while it
      waits inside a driver written in C, which keeps Python from noticing the first request;
    * one that counts, such as a supervisor, reads :attr:`asked` and decides;
    * one started by ``multiprocessing`` keeps to the first request. A service manager signals
      the whole group and the parent passes its signal on, which must not look like haste; and
      Ctrl-C, which reaches the group as well, it leaves to the parent. The parent's end counts
      as a request.

    To be entered in the main thread, as signals are set.
    """

    def __init__(self, *, then: signal.Handlers | None = None) -> None:
        self.asked = 0
        """How often it was asked to stop."""
        parent = multiprocessing.parent_process()
        self._parent = [parent.sentinel] if parent else []
        self._parent_id = os.getppid()
        self._then = None if parent else then
        self._watch: _Watch | None = None

    def __enter__(self) -> Stopping:
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        waker = self._watched() if self._then is not None else self._waker
        self._previous_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._ask) for number in SIGNALS}
        if self._parent:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see held_back()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # On its way out, the second request of which the docstring speaks may still come.
            signal.signal(number, signal.SIG_IGN if self._parent and self.asked else handler)
        signal.set_wakeup_fd(self._previous_fd)
        if self._watch is not None:
            self._watch.close()
        self._awake.close()
        self._waker.close()

    def __call__(self) -> bool:
        """Whether to stop."""
        # The sentinel alone would do if forks did not hold one another's.
        return self.asked > 0 or (bool(self._parent) and os.getppid() != self._parent_id)

    def wait(self, objects: Iterable[Any] = (), timeout: float | None = None) -> list[Any]:
        """Wait until one of *objects* is readable, *timeout* seconds are over, or a request to
        stop comes; return the objects that are ready."""
        ready = wait([*objects, self._awake, *self._parent], timeout)
        if self._awake in ready:
            self._awake.recv(4096)  # any other signal with a handler wakes it, too
        if self._parent and self._parent[0] in ready:
            self.asked += 1
        return [one for one in ready if one is not self._awake and one not in self._parent]

    def _watched(self) -> socket.socket:
        self._watch = _Watch(self._waker)
        return self._watch.waker

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if self._then is not None:
            for each in SIGNALS:
                signal.signal(each, self._then)


class _Watch(threading.Thread):
    """Passes signals on to *waker*; ends the process if the main thread does not hear of two.

    It would have had the second one end the process by itself, had it handled the first.
    """

    def __init__(self, waker: socket.socket) -> None:
        super().__init__(name="pgpubsub_signals", daemon=True)
        self._forward = waker
        self._heard, self.waker = socket.socketpair()
        self.waker.setblocking(False)
        self.start()

    def run(self) -> None:
        """Read the numbers of signals until there is nothing more to read."""
        asked = 0
        while numbers := self._heard.recv(4096):
            with suppress(OSError):  # full, so that it wakes anyhow, or closed already
                self._forward.send(numbers)
            asked += sum(number in SIGNALS for number in numbers)
            if asked >= 2:
                os._exit(128 + numbers[-1])

    def close(self) -> None:
        """Watch no longer."""
        self.waker.close()
        self.join()
        self._heard.close()


@contextmanager
def held_back() -> Iterator[None]:
    """Let SIGTERM and SIGINT wait; in a process started meanwhile, until its own Stopping.

    Otherwise one that arrives while the process starts would kill it with a traceback, or, in
    a fork, be taken by its parent's handler and forgotten.
    """
    # Before Python 3.13 the tracker, started along with the first process, unblocks both.
    resource_tracker.ensure_running()
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
