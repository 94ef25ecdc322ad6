"""The display: a table of what workers have been handling for more than a second."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

from pgpubsub_sql.listeners import registry
from pgpubsub_sql.retry import Backoff
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.worker.connections import (
    DISPLAY,
    backend,
    execute,
    hang_up,
    is_pooled,
    listening_connection,
    prepare,
    set_setting,
)
from pgpubsub_sql.worker.forks import held, in_forks, sever
from pgpubsub_sql.worker.outages import first_line
from pgpubsub_sql.worker.pulse import Doing, Pulses, Reading

logger = logging.getLogger("pgpubsub_sql.supervisor")

LONG_SECONDS = 1.0
"""What takes longer is shown."""
LOOK_SECONDS = 0.5
"""Time between two looks at what the workers do."""
LEAVE_SECONDS = 2.0
"""For so long the end waits for the last statement, which a silent network may hold up."""
STATEMENT_TIMEOUT = "10s"
"""Nobody waits for the display, but a supervisor that forks waits until it does not talk."""


class Displayed(NamedTuple):
    """What a worker has been handling."""

    process: int
    channel: str
    message: int
    listener: str
    since: float
    """By the monotonic clock."""


class Display:
    """Shows what the workers of *pulses* have been handling for long; a context manager.

    A thread does that, so that nobody waits for it. It connects to the database *using* once there
    is something to show, and hangs up once that is over. Without the table or the privileges, it
    shows nothing and says why.
    """

    def __init__(
        self,
        pulses: Pulses,
        processes: int,
        channels: Sequence[str],
        *,
        using: str,
        search_path: str = "",
        name: str = "",
    ) -> None:
        self._pulses = pulses
        self._processes = range(processes)
        self._channels = channels
        self._using = using
        self._search_path = search_path
        self._name = name
        self._listeners = ["", *registry.paths()]
        self._wrapper: Any = None
        self._shown: list[Displayed] = []
        self._backoff = Backoff()
        self._rests_until = 0.0
        self._talking = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pgpubsub_display", daemon=True)

    def __enter__(self) -> Display:
        self._stack = ExitStack()
        self._stack.enter_context(in_forks(self._disown))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(LEAVE_SECONDS)
        self._stack.close()

    def silent(self) -> AbstractContextManager[bool]:
        """Keep the thread from talking to the server; yield whether it does not.

        Only then may this process be forked: a library that is used meanwhile may hold a lock.
        """
        return held(self._talking)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()
        self._show([])

    def _look(self) -> None:
        if self._rests_until <= time.monotonic():
            self._show(list(self._found()))

    def _found(self) -> Iterator[Displayed]:
        for number in self._processes:
            reading = self._pulses.read(number)
            is_long = time.monotonic() - reading.since > LONG_SECONDS
            if reading.doing == Doing.HANDLING and is_long:
                yield self._described(reading)

    def _described(self, reading: Reading) -> Displayed:
        return Displayed(
            process=reading.process,
            channel=self._channels[reading.channel],
            message=reading.message,
            # A worker may know more listeners, of modules that were imported later.
            listener="".join(self._listeners[reading.listener : reading.listener + 1]),
            since=reading.since,
        )

    def _show(self, found: list[Displayed]) -> None:
        """Show what was *found*, unless the server has it already."""
        if not (found or self._wrapper):
            return
        with self._talking:
            try:
                if found != self._shown or not self._wrapper.is_usable():
                    self._write(found)
                if not found:
                    self._hang_up()
            except Exception as error:  # noqa: BLE001 - whatever it is, the workers go on
                self._failed(error)

    def _write(self, found: list[Displayed]) -> None:
        if self._wrapper is None:
            self._connect()
        now = time.monotonic()
        values = {
            "host": socket.gethostname(),
            "processes": [one.process for one in found],
            "channels": [one.channel for one in found],
            "messages": [one.message for one in found],
            "listeners": [one.listener for one in found],
            "seconds": [now - one.since for one in found],
        }
        execute(self._wrapper, query("display"), values)
        self._shown, self._backoff = found, Backoff()

    def _connect(self) -> None:
        self._wrapper = listening_connection(self._using)
        prepare(self._wrapper, DISPLAY, self._name)
        set_setting(self._wrapper, "statement_timeout", STATEMENT_TIMEOUT)
        if self._search_path:
            set_setting(self._wrapper, "search_path", self._search_path)
        if is_pooled(self._wrapper, backend(self._wrapper)):
            raise _Impossible("a pooler is in between, and its sessions end with each transaction")
        if missing := missing_for(self._wrapper, Role.DISPLAYER):
            raise _Impossible(f"{missing.text}. {missing.remedy}")

    def _hang_up(self) -> None:
        wrapper, self._wrapper, self._shown = self._wrapper, None, []
        if wrapper is not None:
            hang_up(wrapper)

    def _failed(self, error: Exception) -> None:
        """Try again later; log it the first time."""
        self._hang_up()
        message = "What takes long cannot be shown: %s"
        level = logging.DEBUG if self._backoff.failures else logging.WARNING
        logger.log(level, message, error if isinstance(error, _Impossible) else first_line(error))
        self._rests_until = time.monotonic() + self._backoff.fail()

    def _disown(self) -> None:
        """In a process that was forked: leave the connection to its owner."""
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None and wrapper.connection is not None:
            sever(wrapper.connection)


class _Impossible(Exception):
    """Nothing can be shown on this database."""
