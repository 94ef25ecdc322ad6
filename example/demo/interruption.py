"""Ctrl-C, at a place of our choosing."""

import signal
from types import FrameType
from typing import Any, Self


class InterruptionError(Exception):
    """Somebody has asked to stop."""


class Interruption:
    """A context manager that notes signals; ``check()`` raises where stopping is safe.

    An exception out of a signal handler may come between a process being started and somebody
    being responsible for it.
    """

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.noted = False
        """Whether somebody has asked to stop."""

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._note) for number in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise :class:`InterruptionError` if somebody has asked to stop."""
        if self.noted:
            raise InterruptionError

    def _note(self, number: int, frame: FrameType | None) -> Any:
        self.noted = True
