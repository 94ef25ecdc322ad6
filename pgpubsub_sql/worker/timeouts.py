"""Timeouts of listeners, which end their Python code as well as their queries."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from pgpubsub_sql.errors import ListenerTimeout

CANCEL_SECONDS = 0.05
"""After the timeout, each further query of the listener is cancelled within this time."""
INTERRUPT_SECONDS = 1.0
"""Time for cleaning up before the listener is interrupted again."""

TIMED_OUT = (
    "The listener took longer than {:g} s, the timeout of its channel. Make it faster, or raise "
    "the timeout."
)

_ACTIVE = 1
"""libpq's transaction status of a connection on which a query runs."""


class TimeoutInterrupt(BaseException):
    """Raised inside a listener that has timed out. Not an Exception, which it might handle."""


def call_with_timeout(
    seconds: float | None, connection: Any, call: Callable[[], object], *, interrupt: bool = True
) -> None:
    """Call *call*, and end it with :class:`ListenerTimeout` after *seconds*.

    A query that runs on Django's *connection* is cancelled. Then, with *interrupt*, a signal
    interrupts the main thread in whatever system call it is in, and again every second until it has
    ended. This ends neither C code that does not return to Python, nor other threads.
    """
    if seconds is None:
        call()
        return
    in_main = threading.current_thread() is threading.main_thread()
    timer = _Timer(seconds, connection, interrupt=interrupt and in_main)
    try:
        timer.begin()
        _interruptible(call)
    except BaseException as error:
        if timer.has_timed_out:
            raise ListenerTimeout(TIMED_OUT.format(seconds)) from error
        raise
    finally:
        timer.end()
    if timer.has_timed_out:
        raise ListenerTimeout(TIMED_OUT.format(seconds))


def _interruptible(call: Callable[[], object]) -> None:
    """Call *call*: only frames inside this one may be interrupted."""
    call()


class _Timer(threading.Thread):
    """Ends a listener from another thread, as its own may be blocked inside the driver."""

    def __init__(self, seconds: float, connection: Any, *, interrupt: bool) -> None:
        super().__init__(name="pgpubsub_timeout", daemon=True)
        self.has_timed_out = False
        self._seconds = seconds
        self._connection = connection
        self._interrupts = interrupt
        self._previous: Any = None
        self._returned = threading.Event()

    def begin(self) -> None:
        """Start the timer."""
        if self._interrupts:
            self._previous = signal.signal(signal.SIGALRM, self._raise)
        self.start()

    def end(self) -> None:
        """Stop the timer, and restore the signal handler."""
        self._returned.set()
        if self.ident is not None:
            self.join()  # a cancellation on its way must not meet the next query
        if self._previous is not None:
            signal.signal(signal.SIGALRM, self._previous)

    def run(self) -> None:
        """Wait for the listener to return; end it if it does not in time."""
        if self._returned.wait(self._seconds):
            return
        self.has_timed_out = True
        interrupt_at = 0.0
        while not self._returned.is_set():
            is_idle = not self._cancel()
            if is_idle and self._interrupts and interrupt_at <= time.monotonic():
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
                interrupt_at = time.monotonic() + INTERRUPT_SECONDS
            self._returned.wait(CANCEL_SECONDS)

    def _cancel(self) -> bool:
        """Cancel the query that is running; return whether there is one."""
        raw = self._connection.connection
        if raw is None or int(raw.info.transaction_status) != _ACTIVE:
            return False
        with suppress(Exception):  # whatever the reason, it is tried again soon
            raw.cancel()
        return True

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.has_timed_out:
            if _may_be_interrupted(frame):
                raise TimeoutInterrupt
        elif callable(self._previous):
            self._previous(number, frame)


def _may_be_interrupted(frame: FrameType | None) -> bool:
    """Return whether the listener is running, rather than code that starts or stops the timer."""
    while frame is not None and frame.f_code is not _interruptible.__code__:
        frame = frame.f_back
    return frame is not None
