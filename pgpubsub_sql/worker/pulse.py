"""The pulse of a worker: what it does now, in memory that its supervisor reads."""

from __future__ import annotations

import enum
import math
import mmap
import os
import tempfile
import time
from struct import Struct
from typing import NamedTuple


class Doing(enum.IntEnum):
    """What a worker does."""

    STARTING = 0
    """It has not done anything yet."""
    IDLE = 1
    """It waits for a NOTIFY, at most ten seconds at a time."""
    WORKING = 2
    """It talks to the server, which may take as long as that needs."""
    HANDLING = 3
    """It calls listeners."""


class Reading(NamedTuple):
    """What a supervisor reads."""

    message: int
    """Id of the stored message in flight; 0 if there is none."""
    listener: int
    """Position of the listener that was called last, from 1, as ``registry.paths()`` has it."""
    process: int
    """Process id of the worker; 0 if none has started."""
    since: float
    """When it began to do this, by the monotonic clock; for messages, when their batch began."""
    limit: float
    """Seconds that the listeners of one message may take together, by their channel's timeout."""
    channel: int
    """Position of the channel among those that the worker listens to."""
    doing: int
    listens: int
    """Whether LISTEN is in effect, as 0 or 1."""


# Native sizes, as both processes run on this machine; the compiler's copy of a number is whole.
_LAYOUT = Struct("@qqqddiBB")
_NUMBER = Struct("@q")
_CHANGE = Struct("@ddiB")
_CHANGE_AT = 3 * _NUMBER.size
_LISTENS_AT = _CHANGE_AT + _CHANGE.size
SLOT_BYTES = 48
"""Bytes of memory for each worker."""


class Pulse:
    """Publishes what one worker does, at *offset* of *memory*, or for nobody.

    It survives whatever kills the worker, and costs no system call.
    """

    def __init__(self, memory: mmap.mmap | bytearray | None = None, offset: int = 0) -> None:
        own = memoryview(bytearray(SLOT_BYTES) if memory is None else memory)
        self._slot = own[offset : offset + SLOT_BYTES]
        numbers = self._slot[:_CHANGE_AT].cast("q")
        self.message, self.listener = numbers[:1], numbers[1:2]
        """One number each, which is assigned before a message is handled, or a listener called."""
        numbers[2] = os.getpid()

    @classmethod
    def shared(cls, fd: int, number: int) -> Pulse:
        """Return the pulse of the worker *number* in the memory that :class:`Pulses` shares."""
        return cls(mmap.mmap(fd, 0), number * SLOT_BYTES)

    def idle(self) -> None:
        """Publish that the worker waits for something to do."""
        self._change(Doing.IDLE)

    def working(self) -> None:
        """Publish that the worker talks to the server."""
        self._change(Doing.WORKING)

    def handling(self, channel: int, limit: float) -> None:
        """Publish that messages of a channel are handled, each within *limit* seconds."""
        self._change(Doing.HANDLING, channel, limit)

    def listens(self, value: bool) -> None:
        """Publish whether LISTEN is in effect."""
        self._slot[_LISTENS_AT] = value

    def _change(self, doing: Doing, channel: int = 0, limit: float = math.inf) -> None:
        self.message[0] = self.listener[0] = 0
        _CHANGE.pack_into(self._slot, _CHANGE_AT, time.monotonic(), limit, channel, doing)


class Pulses:
    """The memory in which a *number* of workers publish their pulses."""

    def __init__(self, number: int) -> None:
        self.fd = _unnamed_file()
        """File descriptor for :meth:`Pulse.shared`, which a new process has to be given."""
        size = max(1, number) * SLOT_BYTES  # mmap() refuses an empty file
        os.ftruncate(self.fd, size)
        self._memory = mmap.mmap(self.fd, size)

    def close(self) -> None:
        """Free the memory, once the workers have ended."""
        self._memory.close()
        os.close(self.fd)

    def clear(self, number: int) -> None:
        """Forget a worker that has ended."""
        start = number * SLOT_BYTES
        self._memory[start : start + SLOT_BYTES] = bytes(SLOT_BYTES)

    def read(self, number: int) -> Reading:
        """Return what a worker has published last.

        It may be changing meanwhile: a reading is certain if it is the same the next time.
        """
        return Reading._make(_LAYOUT.unpack_from(self._memory, number * SLOT_BYTES))


def _unnamed_file() -> int:
    """Return a file descriptor of memory; where that is impossible, of a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pgpubsub_sql")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
