"""What befalls workers, connections and the server."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from django.db import Error, connection

from pgpubsub_sql.embedded import Server
from tests.ledger import sql
from tests.torture.fleet import Fleet, signal_worker
from tests.torture.writers import Writer

PAUSE_SECONDS = (0.2, 1.2)
STOPPED_SECONDS = (0.2, 3.0)


class Calamities:
    """Brings them about, in rounds, each in an order of its own."""

    def __init__(self, server: Server, fleet: Fleet, seed: str) -> None:
        self.counts = Counter[str]()
        self.server = server
        self.fleet = fleet
        self.poisoner = Writer(0, "deadly", seed, threading.Event())
        self._random = random.Random(f"{seed} calamities")
        self._stopped: list[threading.Timer] = []

    def rage(self, seconds: float) -> None:
        """Bring them about for so long; then what was stopped is continued."""
        deadline = time.monotonic() + seconds
        for calamity in self._rounds():
            if time.monotonic() >= deadline:
                break
            self._befall(calamity)
        for timer in self._stopped:
            timer.join()

    def _rounds(self) -> Iterator[Callable[[Calamities], str]]:
        while True:
            yield from self._random.sample(ROUND, len(ROUND))

    def _befall(self, calamity: Callable[[Calamities], str]) -> None:
        time.sleep(self._random.uniform(*PAUSE_SECONDS))
        self.fleet.mend()
        try:
            self.counts[calamity(self)] += 1
        except Error:
            connection.close()

    def kill_a_worker(self) -> str:
        """SIGKILL."""
        signal_worker(self._worker(), signal.SIGKILL)
        return "workers killed"

    def stop_a_worker(self) -> str:
        """SIGSTOP, and SIGCONT a while later: it wakes in a world that has gone on."""
        worker = self._worker()
        signal_worker(worker, signal.SIGSTOP)
        seconds = self._random.uniform(*STOPPED_SECONDS)
        timer = threading.Timer(seconds, signal_worker, (worker, signal.SIGCONT))
        timer.start()
        self._stopped.append(timer)
        return "workers stopped and continued"

    def kill_a_supervisor(self) -> str:
        """SIGKILL of a whole ``manage.py listen``, which is started again."""
        self.fleet.kill(self._random.choice(self.fleet.units[:2]))
        return "supervisors killed"

    def replace(self) -> str:
        """SIGTERM of a whole ``manage.py listen``, as in a deployment."""
        self.fleet.replace(self._random.choice(self.fleet.units))
        return "listen stopped and started"

    def poison(self) -> str:
        """Write a message whose listener ends its process."""
        self.poisoner.notify_deadly()
        return "deadly messages"

    def terminate_a_backend(self) -> str:
        """Of a worker or a writer, whichever connection it is."""
        self._some_backend("pg_terminate_backend")
        return "backends terminated"

    def cancel_a_backend(self) -> str:
        """What it does, if it does something."""
        self._some_backend("pg_cancel_backend")
        return "backends cancelled"

    def crash_the_server(self) -> str:
        """A restart in immediate mode."""
        connection.close()
        self.server.restart("immediate")
        return "server crashed and restarted"

    def restart_the_server(self) -> str:
        """A restart in fast mode, as by an operator."""
        connection.close()
        self.server.restart("fast")
        return "server restarted"

    def _worker(self) -> int:
        return self._random.choice(sorted(self.fleet.workers()))

    def _some_backend(self, function: str) -> None:
        backends = sql(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() ORDER BY backend_start"
        )
        if backends:
            sql(f"SELECT {function}(%s)", *self._random.choice(backends))


ROUND = (
    *[Calamities.kill_a_worker] * 2,
    *[Calamities.stop_a_worker] * 2,
    *[Calamities.terminate_a_backend] * 4,
    *[Calamities.cancel_a_backend] * 2,
    Calamities.poison,
    Calamities.kill_a_supervisor,
    Calamities.replace,
    Calamities.crash_the_server,
    Calamities.restart_the_server,
)
