"""Limits of a worker process, which is replaced once it has reached one."""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

MEGABYTE = 10**6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a worker process may do and become."""

    messages: int | None = None
    """Number of messages that it handles at least before it ends; None for any number."""
    memory: int | None = None
    """Megabytes beyond which it ends; None for any size."""

    def reached(self, handled: int) -> str:
        """Return which limit a worker has reached that has *handled* so many; '' if none.

        One that has handled nothing has not: its successors would be no smaller.
        """
        if not handled:
            return ""
        if self.messages is not None and handled >= self.messages:
            return f"it has handled {handled} messages, and --max-notifications is {self.messages}"
        if self.memory is not None and (size := memory() // MEGABYTE) > self.memory:
            return f"it uses {size} MB of memory, and --max-memory is {self.memory}"
        return ""


def memory() -> int:
    """Return the bytes of memory that this process uses; outside Linux, the most it ever used."""
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
