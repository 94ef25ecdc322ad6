"""A listener's time limit: interrupts what it does in Python, and the query it waits for."""

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
"""A listener that goes on all the same has each further query cancelled after so long."""
INTERRUPT_SECONDS = 1.0
"""And is interrupted again after so long, which it has for cleaning up."""

TOO_LONG = (
    "The listener took longer than {:g} s, the timeout of its channel. Make it faster, or raise "
    "the timeout."
)

_ACTIVE = 1
"""libpq's number for a connection on which a query runs."""


class TimeIsOver(BaseException):
    """Raised in the midst of a listener. Not an Exception, which a listener might handle."""


def time_limit(
    seconds: float | None, connection: Any, call: Callable[[], object], *, interrupt: bool = True
) -> None:
    """Call *call*, and end it after *seconds*, wherever it is, with :class:`ListenerTimeout`.

    A query that runs on Django's *connection* is cancelled. Then, with *interrupt*, a signal
    wakes the main thread out of whatever system call it is in, and again every second until it has
    ended. Neither ends code written in C that does not return to Python, nor other threads.
    """
    if seconds is None:
        call()
        return
    in_main = threading.current_thread() is threading.main_thread()
    watch = _Watch(seconds, connection, interrupt=interrupt and in_main)
    try:
        watch.begin()
        _interruptible(call)
    except BaseException as error:
        if watch.is_over:
            raise ListenerTimeout(TOO_LONG.format(seconds)) from error
        raise
    finally:
        watch.end()
    if watch.is_over:
        raise ListenerTimeout(TOO_LONG.format(seconds))


def _interruptible(call: Callable[[], object]) -> None:
    """What is below this in the stack may be interrupted, and nothing else may."""
    call()


class _Watch(threading.Thread):
    """Waits beside the listener, whose thread may be blocked inside the driver."""

    def __init__(self, seconds: float, connection: Any, *, interrupt: bool) -> None:
        super().__init__(name="pgpubsub_time_limit", daemon=True)
        self.is_over = False
        self._seconds = seconds
        self._connection = connection
        self._interrupts = interrupt
        self._previous: Any = None
        self._returned = threading.Event()

    def begin(self) -> None:
        """Begin to count the seconds."""
        if self._interrupts:
            self._previous = signal.signal(signal.SIGALRM, self._raise)
        self.start()

    def end(self) -> None:
        """Count no longer, and leave nothing behind."""
        self._returned.set()
        if self.ident is not None:
            self.join()  # a cancellation on its way must not meet the next query
        if self._previous is not None:
            signal.signal(signal.SIGALRM, self._previous)

    def run(self) -> None:
        """Wait; if the listener has not returned by then, end it."""
        if self._returned.wait(self._seconds):
            return
        self.is_over = True
        interrupt_at = 0.0
        while not self._returned.is_set():
            is_idle = not self._cancel()
            if is_idle and self._interrupts and interrupt_at <= time.monotonic():
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
                interrupt_at = time.monotonic() + INTERRUPT_SECONDS
            self._returned.wait(CANCEL_SECONDS)

    def _cancel(self) -> bool:
        """Cancel the query that runs; return whether there is one."""
        raw = self._connection.connection
        if raw is None or int(raw.info.transaction_status) != _ACTIVE:
            return False
        with suppress(Exception):  # whatever hinders it, the next try is soon
            raw.cancel()
        return True

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.is_over:
            if _may_be_interrupted(frame):
                raise TimeIsOver
        elif callable(self._previous):
            self._previous(number, frame)


def _may_be_interrupted(frame: FrameType | None) -> bool:
    """Whether the listener runs: what begins and ends the watch must not be cut short."""
    while frame is not None and frame.f_code is not _interruptible.__code__:
        frame = frame.f_back
    return frame is not None
