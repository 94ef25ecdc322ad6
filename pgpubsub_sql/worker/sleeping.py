"""When a worker sleeps, and how writers know of it: see docs/design/doorbell.md."""

from __future__ import annotations

import enum
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgpubsub_sql.sql import OUT_OF_MEMORY, query, render, sqlstate

logger = logging.getLogger("pgpubsub_sql.worker")

LINGER_SECONDS = 0.02
"""How long a channel stays awake after the last message that came."""
AWAKE_SECONDS = 0.002
"""Time between two polls of a channel that is awake."""
WAIT_SECONDS = 0.02
"""Longest wait for a transaction that was quiet; nothing is heard meanwhile."""
SLEEPLESS_SECONDS = 0.05
"""Time between two polls of a channel that cannot go to sleep."""
REFUSALS = 100
"""After so many failures in a row to take lock S, a channel is polled instead."""


Execute = Callable[[str, Mapping[str, Any] | None], list[Any]]
"""Executes a statement on the LISTEN connection, and returns its rows."""


class State(enum.Enum):
    """How close to sleep a channel is."""

    AWAKE = enum.auto()
    """It is polled every :data:`AWAKE_SECONDS`, and writers need not notify."""
    DROWSY = enum.auto()
    """It is about to sleep, and waits for writers that have not notified."""
    DOZING = enum.auto()
    """They have ended. One more poll that finds nothing, and it sleeps."""
    ASLEEP = enum.auto()
    """Writers notify."""


class Sleeper:
    """Puts the durable *channels* of one worker to sleep, and wakes them up.

    It follows the protocol step by step: take lock S, so that writers notify; wait for lock P, so
    that writers that have not notified have ended; poll once more, to find what they have stored.
    """

    def __init__(self, channels: Iterable[str]) -> None:
        self._states = dict.fromkeys(channels, State.AWAKE)
        self._awake_until = dict.fromkeys(self._states, 0.0)
        self._buckets: dict[str, int] = {}
        """The bucket of locks of each channel."""
        self._held: set[int] = set()
        """Buckets whose lock S this session has."""
        self._refusals: Counter[int] = Counter()
        """Buckets whose lock S could not be had, with how often in a row."""

    def start(self, execute: Execute) -> None:
        """Begin anew, on a new connection, with every channel awake."""
        self._held.clear()
        self._refusals.clear()
        rows = execute(query("buckets"), {"channels": list(self._states)})
        self._buckets = dict(rows)
        for name in self._states:
            self.wake(name)

    @property
    def is_awake(self) -> bool:
        """Whether any channel is."""
        return any(state is not State.ASLEEP for state in self._states.values())

    def wake(self, name: str) -> None:
        """Keep a channel awake: a message or a NOTIFY came."""
        if name in self._states:
            self._states[name] = State.AWAKE
            self._awake_until[name] = time.monotonic() + LINGER_SECONDS

    def polled(self, name: str, *, found: bool) -> float:
        """Return in how many seconds to poll a channel again, infinity if it is asleep.

        *found* says whether there were messages.
        """
        if name not in self._states:
            return math.inf
        if found:
            self.wake(name)
        elif self._states[name] is State.DOZING:
            self._states[name] = State.ASLEEP
        elif self._states[name] is State.AWAKE and self._awake_until[name] <= time.monotonic():
            self._states[name] = State.DROWSY
        if self._states[name] is not State.AWAKE:
            return math.inf
        return SLEEPLESS_SECONDS if self._is_sleepless(name) else AWAKE_SECONDS

    def fall_asleep(self, execute: Execute, *, patience: float = WAIT_SECONDS) -> list[str]:
        """Take the next step for channels that are about to sleep; return those to poll now.

        This waits for other transactions at most *patience* seconds.
        """
        self._release(execute)
        self._announce(execute)
        drowsy = [name for name, state in self._states.items() if state is State.DROWSY]
        if drowsy:
            self._wait_for_writers(execute, drowsy, patience)
        return drowsy

    def _release(self, execute: Execute) -> None:
        """Release lock S of buckets whose channels are all awake."""
        needed = {
            self._buckets[name] for name, state in self._states.items() if state is not State.AWAKE
        }
        if surplus := self._held - needed:
            execute(query("wake_up"), {"buckets": list(surplus)})
            self._held -= surplus

    def _announce(self, execute: Execute) -> None:
        """Take lock S for channels that are about to sleep; without it they stay awake."""
        drowsy = [name for name, state in self._states.items() if state is State.DROWSY]
        if wanted := {self._buckets[name] for name in drowsy} - self._held:
            taken = self._take(execute, wanted)
            self._held |= taken
            self._refusals.update(wanted)
            for bucket in taken:
                del self._refusals[bucket]
        for name in drowsy:
            if self._buckets[name] not in self._held:
                self._states[name] = State.AWAKE
                if self._refusals[self._buckets[name]] == REFUSALS:
                    self._warn(name)

    def _take(self, execute: Execute, buckets: set[int]) -> set[int]:
        try:
            rows = execute(query("announce_sleep"), {"buckets": list(buckets)})
        except Exception as error:
            if sqlstate(error) != OUT_OF_MEMORY:  # the lock table is full
                raise
            return set()
        return {bucket for (bucket,) in rows}

    def _wait_for_writers(self, execute: Execute, drowsy: Iterable[str], patience: float) -> None:
        """Find the channels whose writers that have not notified have all ended."""
        buckets = {self._buckets[name] for name in drowsy}
        rows = execute(query("quiet_writers_have_ended"), {"buckets": list(buckets)})
        ended = {bucket for (bucket,) in rows}
        for name in drowsy:
            if self._buckets[name] in ended:
                self._states[name] = State.DOZING
        milliseconds = int(min(patience, WAIT_SECONDS) * 1000)
        if milliseconds and (busy := buckets - ended):
            values = {"bucket": str(min(busy)), "milliseconds": str(milliseconds)}
            execute(render("queries/wait_for_quiet_writers", **values), None)

    def _is_sleepless(self, name: str) -> bool:
        return self._refusals[self._buckets[name]] >= REFUSALS

    def _warn(self, name: str) -> None:
        message = (
            "Channel %s is polled every %g ms instead of by NOTIFY: its advisory lock is taken, or "
            "the server's lock table is full. Look for the lock in pg_locks; max_locks_per_"
            "transaction makes the lock table larger."
        )
        logger.warning(message, name, SLEEPLESS_SECONDS * 1000, extra={"channel": name})
