"""nats-servers on loopback: one, or a cluster, in a temporary directory.

For the demo, the tests and the benchmark of the relay.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from types import TracebackType

from pgpubsub_sql.embedded.posix import die_with_parent

BINARY = Path(sys.executable).with_name("nats-server")
START_SECONDS = 60.0
_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections."""


def free_ports(count: int) -> list[int]:
    """Return ports of loopback at which nothing listens."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, 500):
        with socket.socket() as one:
            if len(found) < count and one.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


class Node:
    """One nats-server, which can be killed and started again."""

    def __init__(self, folder: Path, number: int, port: int, monitor: int) -> None:
        self.folder, self.number, self.port, self.monitor = folder, number, port, monitor
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """Where it keeps its streams."""
        return self.folder / f"store-{self.number}"

    @property
    def log(self) -> str:
        return (self.folder / f"{self.number}.log").read_text()

    def configure(self, extra: str, routes: list[int], jetstream: str = "") -> None:
        cluster = ""
        if len(routes) > 1:
            urls = ", ".join(f"nats://127.0.0.1:{route}" for route in routes)
            cluster = f"cluster {{ name: tests, listen: 127.0.0.1:{routes[self.number]}, "
            cluster += f"routes: [{urls}] }}"
        (self.folder / f"{self.number}.conf").write_text(
            f"server_name: n{self.number}\nlisten: 127.0.0.1:{self.port}\n"
            f"http: 127.0.0.1:{self.monitor}\n"
            f'jetstream {{ store_dir: "{self.store}", max_mem: 64MB, max_file: 1GB\n'
            f"{jetstream}\n}}\n"
            f"{cluster}\n{extra}\n"
        )

    def start(self) -> None:
        with (self.folder / f"{self.number}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "-c", self.folder / f"{self.number}.conf"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGKILL),
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def is_healthy(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/healthz", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Nats:
    """A context manager: *size* nats-servers that know each other.

    *extra* is added to the configuration of each, and *jetstream* to its section of that name.
    """

    def __init__(self, size: int = 1, extra: str = "", *, jetstream: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nats-"))
        ports = free_ports(3 * size)
        clients, monitors, routes = ports[:size], ports[size : 2 * size], ports[2 * size :]
        self.nodes = [
            Node(self.folder, number, clients[number], monitors[number]) for number in range(size)
        ]
        for node in self.nodes:
            node.configure(extra.replace("FOLDER", str(self.folder)), routes, jetstream)

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self) -> None:
        for node in self.nodes:
            if node.process is None:
                node.start()
        self.wait()

    def wait(self) -> None:
        """Wait until all that run are healthy."""
        deadline = time.monotonic() + START_SECONDS
        while not all(node.is_healthy() for node in self.nodes if node.process):
            assert time.monotonic() < deadline, "\n".join(node.log for node in self.nodes)
            time.sleep(0.02)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Nats:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
