"""What systemd is told, and the files that the documentation has for it and for Kubernetes."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgpubsub_sql.worker.pulse import Pulse
from pgpubsub_sql.worker.service_manager import ServiceManager
from pgpubsub_sql.worker.shutdown import Shutdown
from pgpubsub_sql.worker.watch import Watch
from tests.conftest import ROOT, Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, waiting

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


class Manager:
    """A service manager, at a socket with this address."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        """Return all that it was ever told."""
        while True:
            try:
                self.heard.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        yield manager


def environment(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.socket.getsockname(), "WATCHDOG_USEC": "300000"} | more


def test_systemd_is_told_what_listen_does(listen: Start, manager: Manager) -> None:
    """READY once all workers listen, WATCHDOG until the end."""
    listener = listen(
        "--channels", "app.Job", "--processes", "2", **environment(manager, WATCHDOG_PID="")
    )
    eventually(lambda: "READY=1" in manager.hear())
    assert listener.log.count("Listening to") == 2
    eventually(lambda: manager.hear().count("WATCHDOG=1") > 3)
    with listeners_wait():
        jobs("wait")
        eventually(waiting)
        listener.process.send_signal(signal.SIGTERM)
        eventually(lambda: "STOPPING=1" in manager.hear())
        beats = manager.heard.count("WATCHDOG=1")
        eventually(lambda: manager.hear().count("WATCHDOG=1") > beats + 2)
    assert listener.process.wait(30) == 0
    assert manager.hear().count("READY=1") == 1
    assert {*manager.heard} == {"READY=1", "WATCHDOG=1", "STOPPING=1"}


def test_ready_is_told_when_the_last_worker_listens(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.socket.getsockname())
    with Watch(2, ("app.Job",)) as watch, Shutdown() as shutdown:
        for number in range(2):
            watch.wait(shutdown, 0.0)
            assert manager.hear() == []
            Pulse.shared(watch.pulses.fd, number).listens(True)
        for _ in range(2):
            watch.wait(shutdown, 0.0)
        assert manager.hear() == ["READY=1"]


def test_an_abstract_socket_is_found() -> None:
    name = f"pgpubsub_sql test {os.getpid()}"
    manager = Manager(f"\0{name}")
    with manager.socket:
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert manager.hear() == ["READY=1"]


def test_the_watchdog_of_another_process_is_not_fed(manager: Manager) -> None:
    """A shell around listen, for example."""
    for pid, beats in ((str(os.getppid()), 0), (str(os.getpid()), 1), ("", 2)):
        ServiceManager(environment(manager, WATCHDOG_PID=pid)).beat()
        assert manager.hear() == ["WATCHDOG=1"] * beats


def test_without_a_service_manager_nobody_is_told(manager: Manager) -> None:
    alone = ServiceManager({"WATCHDOG_USEC": "300000"})
    alone.beat()
    alone.ready()
    assert alone.patience() == float("inf")
    assert ServiceManager(environment(manager)).patience() == 0


def test_a_service_manager_that_does_not_read_blocks_nothing(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    """READY is told again, and the log has one line."""
    one = ServiceManager(environment(manager))
    eventually(lambda: one._tell("STATUS=busy") or caplog.text)
    while not caplog.text:
        one._tell("STATUS=busy")
    one.ready()
    one.beat()
    assert 0 < one.patience() <= 0.1
    assert len(caplog.records) == 1
    assert "(NOTIFY_SOCKET) cannot be told STATUS=busy: " in caplog.text
    manager.hear()
    one.ready()
    assert "READY=1" in manager.hear()


# --- Files of the documentation


def blocks(language: str) -> list[str]:
    page = (ROOT / "docs/howto/deploy.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.fixture
def unit() -> str:
    (unit,) = [text for text in blocks("ini") if "[Unit]" in text]
    return unit


def test_the_unit_is_ready_when_the_workers_are(unit: str) -> None:
    """While it waits for a database that is down, systemd must not end it."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str
    parsed.read_string(unit)
    service = parsed["Service"]
    assert (service["Type"], service["TimeoutStartSec"]) == ("notify", "infinity")
    assert service["KillMode"] == "mixed"
    assert int(service["WatchdogSec"]) >= 10


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_understands_the_unit(unit: str, tmp_path: Path) -> None:
    here = unit.replace("/srv/mysite/.venv/bin/python", sys.executable)
    here = here.replace("User=mysite", "User=root").replace("/srv/mysite", str(tmp_path))
    file = tmp_path / "mysite-listen.service"
    file.write_text(here)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, _about(file, done.stderr)) == (0, [])
    file.write_text(here.replace("WatchdogSec", "WatchdogSecs"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert _about(file, done.stderr)


def _about(file: Path, text: str) -> list[str]:
    return [line for line in text.splitlines() if file.name in line]
