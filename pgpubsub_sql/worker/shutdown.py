"""Shutdown: the request to stop, by a signal or by the end of the supervisor."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing.connection import wait
from types import FrameType, TracebackType
from typing import Any

from pgpubsub_sql.worker.forks import in_forks

logger = logging.getLogger("pgpubsub_sql.worker")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_SECONDS = 1.0
"""Signals within this time count as one request. Wrappers, shells and service managers often signal
the process and its group, one right after the other."""

HOW_TO_ABORT = f"To abort, send the signal again after {GRACE_SECONDS:g} s"

Handler = Callable[[int, FrameType | None], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lifeline:
    """Ties a worker to its supervisor, and tells it when that has ended."""

    reader: int
    """Reading end of a pipe. It becomes readable when the supervisor, which alone holds the writing
    end, is gone."""
    supervisor: int
    """Process id of the supervisor."""
    pulses: int
    """File descriptor of the memory in which the worker publishes what it does."""

    @property
    def is_cut(self) -> bool:
        """Whether the supervisor is gone. Costs one cheap system call."""
        return os.getppid() != self.supervisor


class Shutdown:
    """A context manager that turns SIGTERM and SIGINT into requests to count and to wait for.

    ::

        with Shutdown() as shutdown:
            while not shutdown.is_requested():
                shutdown.wait([sock], timeout=5)

    The first request asks to finish the messages in flight. A second one, which counts only after
    :data:`GRACE_SECONDS`, means different things to different processes:

    * a process that *aborts*, such as a worker on its own, ends at once, even while its main thread
      waits inside a driver written in C;
    * a supervisor reads :attr:`requests` and decides;
    * a worker with a *lifeline* ignores it, because its supervisor decides. It takes the end of its
      supervisor for a request, and leaves Ctrl-C, which reaches the whole process group, to its
      supervisor.

    With *awaits_children*, the end of a child process ends :meth:`wait`, too. Outside the main
    thread, where Python handles no signals, only :meth:`request` makes a request. In a process that
    is forked meanwhile, signals have their previous handlers.
    """

    def __init__(
        self,
        *,
        aborts: bool = False,
        lifeline: Lifeline | None = None,
        awaits_children: bool = False,
    ) -> None:
        self._requests = _Requests()
        self._lifeline = lifeline
        self._aborts = aborts
        self._awaits_children = awaits_children
        self._handlers: dict[int, Handler] = {}
        self._wakeup_fd = -1

    @property
    def requests(self) -> int:
        """Number of requests to stop."""
        return self._requests.count

    def __enter__(self) -> Shutdown:
        self._stack = ExitStack()
        self._awake, self._waker = (self._stack.enter_context(each) for each in socket.socketpair())
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            self._handle_signals()
        self._stack.enter_context(in_forks(self._requests.add))
        return self

    def _handle_signals(self) -> None:
        waker = self._stack.enter_context(_Watcher(self._waker)) if self._aborts else self._waker
        self._wakeup_fd = waker.fileno()
        self._handlers = dict.fromkeys(SIGNALS, self._ask)
        if self._lifeline:
            self._handlers[signal.SIGINT] = _ignore
        if self._awaits_children:
            self._handlers[signal.SIGCHLD] = _ignore
        # A request may still come while a worker ends.
        after: dict[int, Any] = dict.fromkeys(SIGNALS, signal.SIG_IGN) if self._lifeline else {}
        self._stack.enter_context(signal_handlers(self._handlers, self._wakeup_fd, after))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see signals_held()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._handlers = {}

    def is_requested(self) -> bool:
        """Whether anybody has requested to stop."""
        return self.requests > 0 or (self._lifeline is not None and self._lifeline.is_cut)

    def request(self) -> None:
        """Request to stop, from any thread."""
        self._requests.add()
        with suppress(OSError, AttributeError):  # full, so that the wait ends anyway, or not open
            self._waker.send(b"\0")

    def take_back_signals(self) -> None:
        """Restore the handlers, which a listener may have replaced or blocked."""
        if self._handlers:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handlers)
            _set(self._handlers, self._wakeup_fd)

    def wait(self, objects: Iterable[Any] = (), timeout: float | None = None) -> list[Any]:
        """Wait for a readable object of *objects*, or a request to stop, up to *timeout* seconds.

        Return the objects that are readable.
        """
        own: list[Any] = [self._awake]
        if self._lifeline:
            own.append(self._lifeline.reader)
        ready = wait([*objects, *own], timeout)
        if self._awake in ready:
            self._awake.recv(4096)  # any other signal with a handler ends the wait, too
        if self._lifeline and self._lifeline.reader in ready:
            self._requests.add()
        return [one for one in ready if one not in own]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._requests.add()
        if self._aborts and self.requests >= 2:
            os._exit(128 + number)


class _Requests:
    """A count of requests to stop."""

    def __init__(self) -> None:
        self.count = 0
        self._last = 0.0

    def add(self) -> None:
        """Count a request, unless it belongs to the one before."""
        now = time.monotonic()
        if not self.count or now - self._last >= GRACE_SECONDS:
            self.count += 1
            self._last = now


class _Watcher(threading.Thread):
    """Passes signals on to *waker*; ends the process at a second request to stop.

    The main thread cannot do so while it waits inside the driver.
    """

    def __init__(self, waker: socket.socket) -> None:
        super().__init__(name="pgpubsub_signals", daemon=True)
        self._forward = waker
        self._heard, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def __enter__(self) -> socket.socket:
        self.start()
        return self._waker

    def __exit__(self, *exception: object) -> None:
        self._waker.close()
        self.join()
        self._heard.close()

    def run(self) -> None:
        """Read the numbers of signals until the other end is closed."""
        requests = _Requests()
        while numbers := self._heard.recv(4096):
            with suppress(OSError):  # full, so that the wait ends anyway, or closed
                self._forward.send(numbers)
            asked = [number for number in numbers if number in SIGNALS]
            if not asked:
                continue
            requests.add()
            if requests.count >= 2:
                os._exit(128 + asked[-1])
            logger.info("Asked to stop: finishing the messages in flight. %s", HOW_TO_ABORT)


@contextmanager
def signal_handlers(
    handlers: Mapping[int, Handler], wakeup_fd: int, after: Mapping[int, Any]
) -> Iterator[None]:
    """Set signal handlers within the block, but not in processes that are forked from it.

    At its end those of *after* are set, or else the previous ones.
    """
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in handlers}
    fd_before = _set(handlers, wakeup_fd)
    try:
        with in_forks(partial(_set, before, -1)):
            yield
    finally:
        _set(after or before, fd_before)


def _set(handlers: Mapping[int, Any], wakeup_fd: int) -> int:
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Only end the wait. SIG_IGN would be inherited by programs that are started meanwhile."""


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGTERM and SIGINT back; in a process started meanwhile, until it has a Shutdown.

    Otherwise a signal that arrives while the process starts would kill it with a traceback.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
