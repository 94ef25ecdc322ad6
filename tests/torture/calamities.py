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
from tests.torture.network import Network
from tests.torture.roles import SETTINGS, reset_role, set_role
from tests.torture.writers import Writer

PAUSE_SECONDS = (0.4, 1.6)
STOPPED_SECONDS = (0.2, 3.0)
UNNOTICED_SECONDS = 75.0
"""By then a worker has noticed that a connection is lost of which nobody has told it."""
SILENT_SECONDS = (0.5, 4.0)
ROLE_SECONDS = (1.0, 5.0)


class Calamities:
    """Brings them about, in rounds, each in an order of its own."""

    def __init__(self, server: Server, network: Network, fleet: Fleet, seed: str) -> None:
        self.counts = Counter[str]()
        self.server = server
        self.network = network
        self.fleet = fleet
        self.poisoner = Writer(0, "deadly", seed, threading.Event())
        self._random = random.Random(f"{seed} calamities")
        self._ends: list[threading.Timer] = []

    def rage(self, seconds: float) -> None:
        """Bring them about for so long; then those that last are brought to their end."""
        deadline = time.monotonic() + seconds
        for calamity in self._rounds():
            if time.monotonic() >= deadline:
                break
            self._befall(calamity)
        for timer in self._ends:
            timer.join()
        if (unnoticed := self.network.longest_unnoticed()) > UNNOTICED_SECONDS:
            self.fleet.problems.append(f"A lost connection unnoticed for {unnoticed:.0f} s")
        self.network.cut()

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
        self._later(STOPPED_SECONDS, signal_worker, worker, signal.SIGCONT)
        return "workers stopped and continued"

    def kill_a_supervisor(self) -> str:
        """SIGKILL of a whole ``manage.py listen``, which is started again."""
        self.fleet.kill(self._random.choice(self.fleet.units[:2]))
        return "supervisors killed"

    def kill_a_tree(self) -> str:
        """SIGKILL of a whole ``manage.py listen`` and all its workers at once."""
        self.fleet.kill_tree(self._random.choice(self.fleet.units))
        return "trees killed"

    def replace(self) -> str:
        """SIGTERM of a whole ``manage.py listen``, as in a deployment."""
        self.fleet.replace(self._random.choice(self.fleet.units))
        return "listen stopped and started"

    def poison(self) -> str:
        """Write a message whose listener ends its process."""
        self.poisoner.notify_deadly()
        return "deadly messages"

    def poison_a_tree(self) -> str:
        """Write a message whose listener kills the supervisor and all its workers."""
        self.poisoner.notify_felling()
        return "messages that kill a tree"

    def silence_the_network(self) -> str:
        """Nothing arrives for a while; then all does, as if nothing had been."""
        self.network.fall_silent()
        self._later(SILENT_SECONDS, self.network.recover)
        return "network silent"

    def silence_connections(self) -> str:
        """Nothing arrives on some connections for a while; then all does."""
        self.network.silence_some(self._random)
        self._later(SILENT_SECONDS, self.network.recover)
        return "connections silent"

    def cut_connections(self) -> str:
        """Some connections fall silent, and are reset in the end. The server learns of it last."""
        self.network.silence_some(self._random)
        reset = self._later(SILENT_SECONDS, self.network.cut)
        self._later((reset, reset + 2), self.network.recover)
        return "connections silent until reset"

    def lose_a_connection(self) -> str:
        """One connection is silent for good: its worker has to notice by itself."""
        self.network.lose_one(self._random)
        return "connections lost without a word"

    def change_the_role(self) -> str:
        """``ALTER ROLE … SET``, and new connections; after a while ``RESET``, and new ones."""
        name, value = self._random.choice(SETTINGS)
        set_role(name, value)
        self._later(ROLE_SECONDS, reset_role, name)
        return f"role's {name}"

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

    def _later(
        self, seconds: tuple[float, float], end: Callable[..., object], *arguments: object
    ) -> float:
        """Call *end* after a while; return the seconds until then."""
        chosen = self._random.uniform(*seconds)
        timer = threading.Timer(chosen, end, arguments)
        timer.start()
        self._ends.append(timer)
        return chosen

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
    Calamities.poison_a_tree,
    Calamities.kill_a_supervisor,
    Calamities.kill_a_tree,
    Calamities.silence_the_network,
    *[Calamities.silence_connections] * 2,
    Calamities.cut_connections,
    Calamities.lose_a_connection,
    *[Calamities.change_the_role] * 3,
    Calamities.replace,
    Calamities.crash_the_server,
    Calamities.restart_the_server,
)
