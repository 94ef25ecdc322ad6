"""Which signals stop a server, and how they arrive."""

from __future__ import annotations

import ctypes
import signal
import sys

STOP_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


def leave_it_to_the_wakeup(number: int, frame: object) -> None:
    """A signal without a handler wakes nobody up."""


def die_with_parent(number: signal.Signals) -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # <sys/prctl.h>
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
