"""The watch over workers: which listen, which hang, and who is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from http import HTTPStatus

from pgpubsub_sql.worker.health import Answer, Answers, Endpoint, alive, not_ready, wait
from pgpubsub_sql.worker.pulse import Doing, Pulses, Reading
from pgpubsub_sql.worker.service_manager import ServiceManager
from pgpubsub_sql.worker.shutdown import Shutdown

logger = logging.getLogger("pgpubsub_sql.supervisor")

GRACE_SECONDS = 30.0
"""A worker is killed so long after the timeout of its channel, which in the meantime interrupts the
listener once a second."""
IDLE_SECONDS = 60.0
"""A worker that waits turns its loop at least every ten seconds. After so many it is stuck."""
REPORT_SECONDS = 300.0
"""After so many seconds with the same batch or query it is logged that a worker may hang, and again
each time that has doubled."""
SURE_SECONDS = 1.0
"""What would have a worker killed must still be so after this time. When a machine wakes up, the
supervisor may run before the worker does."""
NOT_LISTENING = {
    Doing.STARTING: "is not running, or starts",
    Doing.IDLE: "waits to connect",
    Doing.WORKING: "connects",
    Doing.HANDLING: "handles messages without listening",
}


class Watch:
    """Watches as many workers of *channels* as there are *processes*; a context manager.

    It answers health checks at the *endpoint*, if there is one, and what *answers* has besides, and
    tells the service manager. It knows what the workers publish in shared memory, and asks neither
    them nor the server.
    """

    def __init__(
        self,
        processes: int,
        channels: Sequence[str],
        endpoint: Endpoint | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.pulses = Pulses(processes)
        self._is_stopping = False
        self._processes = range(processes)
        self._endpoint = endpoint
        self._answers = {"/livez": alive, "/readyz": self._ready, **(answers or {})}
        self._manager = ServiceManager()
        self._hangs = _Hangs(channels)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pulses.close()

    def wait(self, shutdown: Shutdown, seconds: float) -> None:
        """Wait up to so many seconds as *shutdown* does; answer and tell who wants to know."""
        wait(shutdown, min(seconds, self._manager.patience()), self._answers, self._endpoint)
        self._manager.beat()
        if all(self.pulses.read(number).listens for number in self._processes):
            self._manager.ready()

    def stop(self) -> None:
        """Note that the workers are asked to stop."""
        self._is_stopping = True
        self._manager.stopping()

    def forget(self, number: int) -> None:
        """Note that a worker has ended, or that another one starts in its place."""
        self.pulses.clear(number)
        self._hangs.forget(number)

    def why_kill(self, number: int) -> str:
        """Return why a worker that runs must be killed; '' if it need not."""
        return self._hangs.why_kill(number, self.pulses.read(number))

    def _ready(self) -> Answer:
        readings = {number: self.pulses.read(number) for number in self._processes}
        silent = {number: one for number, one in readings.items() if not one.listens}
        if self._is_stopping:
            return not_ready("The workers are being stopped.")
        if silent:
            told = [f"worker {n} {NOT_LISTENING[Doing(one.doing)]}" for n, one in silent.items()]
            return not_ready(f"Not every worker listens: {', '.join(told)}.")
        return HTTPStatus.OK, {"ready": True}


class _Hangs:
    """Finds workers that hang, by what they do and since when."""

    def __init__(self, channels: Sequence[str]) -> None:
        self._channels = channels
        self._suspects: dict[int, tuple[Reading, float]] = {}
        """What a worker that seems to hang was first seen to do, and when that was."""
        self._report_after: dict[int, float] = {}
        """For how long a worker may do the same until that is reported."""

    def forget(self, number: int) -> None:
        """Forget a worker that has ended."""
        self._suspects.pop(number, None)
        self._report_after.pop(number, None)

    def why_kill(self, number: int, reading: Reading) -> str:
        """Return why a worker must be killed; log if it only may hang."""
        now = time.monotonic()
        self._report(number, reading, now - reading.since)
        complaint = self._complaint(reading, now - reading.since)
        before, at = self._suspects.get(number, (None, now))
        if not complaint:
            self._suspects.pop(number, None)
        elif before != reading:
            self._suspects[number] = reading, now
        return complaint if before == reading and now - at >= SURE_SECONDS else ""

    def _complaint(self, reading: Reading, seconds: float) -> str:
        if reading.doing == Doing.IDLE and seconds > IDLE_SECONDS:
            return f"has nothing to do, and has given no sign of life for {seconds:.0f} s"
        if reading.doing == Doing.HANDLING and seconds > reading.limit + GRACE_SECONDS:
            work = self._work(reading)
            return f"has been handling {work} for {seconds:.0f} s, and its timeout did not end that"
        return ""

    def _report(self, number: int, reading: Reading, seconds: float) -> None:
        after = self._report_after.get(number, REPORT_SECONDS)
        if reading.doing not in (Doing.WORKING, Doing.HANDLING) or seconds < REPORT_SECONDS:
            self._report_after.pop(number, None)
        elif seconds >= after:
            self._report_after[number] = 2 * after
            if reading.doing == Doing.WORKING:
                message = "Worker %s has been waiting for the server for %.0f s"
                logger.warning(message, number, seconds)
            else:
                message = (
                    "Worker %s has been handling %s for %.0f s. If it hangs, kill its process, and "
                    "give the channel a timeout."
                )
                logger.warning(message, number, self._work(reading), seconds)

    def _work(self, reading: Reading) -> str:
        message = f"message {reading.message}" if reading.message else "a message"
        return f"{message} of channel {self._channels[reading.channel]}"
