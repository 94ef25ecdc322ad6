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
from pgpubsub_sql.subscriptions import Lane

logger = logging.getLogger("pgpubsub_sql.worker")

LINGER_SECONDS = 0.02
"""How long a channel stays awake after the last message that came."""
AWAKE_SECONDS = 0.002
"""Time between two polls of a channel that is awake."""
SHARE = 0.1
"""A channel that does not go to sleep is polled after this share of the time since its last
message."""
POLL_SECONDS = 10.0
"""Longest time between two polls of a channel. A NOTIFY leads to one at once; this finds messages
that no NOTIFY announces, such as those of a worker that died, or of a channel that is polled."""
WAIT_SECONDS = 0.02
"""Longest wait for a writer's transaction. The worker hears no NOTIFY meanwhile."""
SLEEPLESS_SECONDS = 0.05
"""Time between two polls of a channel that cannot go to sleep."""
REFUSALS = 100
"""After so many failures in a row to take lock S, a channel is polled instead."""


Execute = Callable[[str, Mapping[str, Any] | None], list[Any]]
"""Executes a statement on the LISTEN connection, and returns its rows."""


class SleepState(enum.Enum):
    """How close to sleep a channel is."""

    AWAKE = enum.auto()
    """It is polled every :data:`AWAKE_SECONDS`, and writers need not notify."""
    DROWSY = enum.auto()
    """It is about to sleep. It takes lock S, and waits until no writer holds lock P."""
    DOZING = enum.auto()
    """Both are done. One more poll that finds nothing, and it sleeps."""
    ASLEEP = enum.auto()
    """Writers notify, as long as lock S is held."""
    PAUSED = enum.auto()
    """Nobody takes its messages, so writers need not notify. The end of the pause is notified."""
    POLLED = enum.auto()
    """Writers never notify. It is polled, less and less often as long as nothing comes."""


_QUIET = (SleepState.ASLEEP, SleepState.PAUSED, SleepState.POLLED)
"""In these states a channel waits for a NOTIFY, or for its next poll, which is seldom."""


class Sleeper:
    """Puts the *lanes* of one worker to sleep, and wakes them up.

    Those that are *polled* never sleep: they have nothing to do with the locks, which are those of
    their channels.

    It follows the protocol step by step: take lock S, so that writers notify; wait for lock P, so
    that no writer is left that may have seen S free; poll once more, to find what they have stored.
    """

    def __init__(self, lanes: Iterable[Lane], *, polled: Iterable[Lane] = ()) -> None:
        self._states = dict.fromkeys(lanes, SleepState.AWAKE) | dict.fromkeys(
            polled, SleepState.POLLED
        )
        self._awake_until = dict.fromkeys(self._states, 0.0)
        self._buckets: dict[Lane, int] = {}
        """The bucket of locks of the channel of each lane."""
        self._held: set[int] = set()
        """Buckets whose lock S this session has."""
        self._refusals: Counter[int] = Counter()
        """Buckets whose lock S was refused, with how often in a row."""
        self._retry_at = dict.fromkeys(self._states, 0.0)
        """When to try lock S again for a lane, by the monotonic clock."""

    def start(self, execute: Execute) -> None:
        """Begin anew, on a new connection, with every lane awake."""
        self._held.clear()
        self._refusals.clear()
        sleepy = [lane for lane, state in self._states.items() if state is not SleepState.POLLED]
        channels = list(dict.fromkeys(lane.channel for lane in sleepy))
        buckets = dict(execute(query("buckets"), {"channels": channels}))
        self._buckets = {lane: buckets[lane.channel] for lane in sleepy}
        for lane in self._states:
            self.wake(lane)

    @property
    def is_awake(self) -> bool:
        """Whether any channel is that can sleep."""
        return not all(state in _QUIET for state in self._states.values())

    def wake(self, lane: Lane) -> None:
        """Keep a channel awake, because a message or a NOTIFY came. It has to be polled now."""
        if self._states[lane] is not SleepState.POLLED:
            self._states[lane] = SleepState.AWAKE
        self._awake_until[lane] = time.monotonic() + LINGER_SECONDS

    def is_settled(self, lane: Lane) -> bool:
        """Whether a poll that finds nothing keeps a channel asleep, or puts it to sleep.

        So that poll has to be thorough: nobody notifies of what it misses.
        """
        return self._states[lane] in (SleepState.DOZING, SleepState.ASLEEP)

    def is_idle(self, lane: Lane) -> bool:
        """Whether a poll of a channel is likely to find nothing."""
        if self._states[lane] is SleepState.POLLED:
            return self._awake_until[lane] <= time.monotonic()
        return self._states[lane] is SleepState.PAUSED or self.is_settled(lane)

    def pause(self, lane: Lane) -> None:
        """Have writers not notify of a channel that is paused, and nobody poll it often."""
        if self._states[lane] is not SleepState.POLLED:
            self._states[lane] = SleepState.PAUSED

    def polled(self, lane: Lane, *, found: bool, may_sleep: bool = True) -> float:
        """Return in how many seconds to poll a channel again; infinity leaves that to others.

        *found* says whether there were messages. Without *may_sleep* the channel stays awake,
        because going to sleep takes a thorough poll, and that may cost too much now.
        """
        if found:
            self.wake(lane)
        late = time.monotonic() - self._awake_until[lane]
        if self._states[lane] is SleepState.DOZING:
            self._states[lane] = SleepState.ASLEEP
        elif self._states[lane] is SleepState.AWAKE and late >= 0 and may_sleep:
            self._states[lane] = SleepState.DROWSY
        if self._states[lane] not in (SleepState.AWAKE, SleepState.POLLED):
            return math.inf
        longest = WAIT_SECONDS if self._states[lane] is SleepState.AWAKE else POLL_SECONDS
        return min(max(AWAKE_SECONDS, SHARE * late), longest)

    def fall_asleep(self, execute: Execute, *, patience: float = WAIT_SECONDS) -> dict[Lane, float]:
        """Take the next step for channels that are about to sleep.

        This waits for other transactions at most *patience* seconds. Return in how many seconds to
        poll each of these channels.
        """
        self._release(execute)
        drowsy = [lane for lane, state in self._states.items() if state is SleepState.DROWSY]
        self._announce(execute, drowsy)
        announced = [lane for lane in drowsy if self._buckets[lane] in self._held]
        if announced:
            self._wait_for_writers(execute, announced, patience)
        now = time.monotonic()
        refused = {lane: max(0.0, self._retry_at[lane] - now) for lane in drowsy}
        return refused | dict.fromkeys(announced, 0.0)

    def _release(self, execute: Execute) -> None:
        """Release lock S of buckets whose channels are all awake."""
        needed = {
            self._buckets[lane]
            for lane, state in self._states.items()
            if state not in (SleepState.AWAKE, SleepState.PAUSED, SleepState.POLLED)
        }
        if surplus := self._held - needed:
            execute(query("announce_awake"), {"buckets": list(surplus)})
            self._held -= surplus

    def _announce(self, execute: Execute, drowsy: Iterable[Lane]) -> None:
        """Take lock S for these channels. Where it is refused, try again soon."""
        now = time.monotonic()
        due = [lane for lane in drowsy if self._retry_at[lane] <= now]
        if wanted := {self._buckets[lane] for lane in due} - self._held:
            taken = self._take(execute, wanted)
            self._held |= taken
            self._refusals.update(wanted)
            for bucket in taken:
                del self._refusals[bucket]
        for lane in due:
            refusals = self._refusals[self._buckets[lane]]
            seconds = SLEEPLESS_SECONDS if refusals >= REFUSALS else AWAKE_SECONDS
            self._retry_at[lane] = now + seconds if refusals else 0.0
            if refusals == REFUSALS:
                self._warn(lane)

    def _take(self, execute: Execute, buckets: set[int]) -> set[int]:
        try:
            rows = execute(query("announce_sleep"), {"buckets": list(buckets)})
        except Exception as error:
            if sqlstate(error) != OUT_OF_MEMORY:  # the lock table is full
                raise
            return set()
        return {bucket for (bucket,) in rows}

    def _wait_for_writers(self, execute: Execute, drowsy: Iterable[Lane], patience: float) -> None:
        """Find the channels whose lock P nobody holds; wait for one that somebody holds."""
        buckets = {self._buckets[lane] for lane in drowsy}
        rows = execute(query("writers_have_ended"), {"buckets": list(buckets)})
        ended = {bucket for (bucket,) in rows}
        for lane in drowsy:
            if self._buckets[lane] in ended:
                self._states[lane] = SleepState.DOZING
        milliseconds = int(min(patience, WAIT_SECONDS) * 1000)
        if milliseconds and (busy := buckets - ended):
            values = {"bucket": str(min(busy)), "milliseconds": str(milliseconds)}
            execute(render("queries/wait_for_writers", **values), None)

    def _warn(self, lane: Lane) -> None:
        message = (
            "Channel %s is polled every %g ms, because it cannot sleep: another session has taken "
            "its advisory lock, or the server's lock table is full. Look for the lock in pg_locks. "
            "A larger max_locks_per_transaction makes the lock table larger."
        )
        logger.warning(message, lane, SLEEPLESS_SECONDS * 1000, extra=lane._asdict())
