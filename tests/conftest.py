"""The suite's own PostgreSQL, and workers as real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from hypothesis import settings as hypothesis_settings

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.worker.worker import Worker
from tests.flushing import flush_little
from tests.measuring import measure_keepers
from tests.preloaded import Preloaded
from tests.workers import asleep

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS = 30.0
MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory. CREATE DATABASE is ten times as quick there as on a disk."""


# A shell starts what runs in its background with SIGINT ignored, and child processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Else each of the many processes that the tests start compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

hypothesis_settings.register_profile("long")
"""For ``make test-long``: tests that have a short and a long form look at its name."""


measure_keepers()
flush_little()


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    """Have temporary files in memory, if there is enough for a server of each process."""
    usual = tempfile.gettempdir()
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 8 * 1024**3:
        tempfile.tempdir = str(MEMORY)
    try:
        yield
    finally:
        tempfile.tempdir = usual


@pytest.fixture
def worker(transactional_db: None) -> Iterator[Worker]:
    """A worker that listens, has found nothing to do, and sleeps."""
    # Here, because the harness of migrations imports this module, and has no such app.
    from tests.app.channels import ItemChannel, ItemNews, Job, Shout, Step

    with asleep(Job, Shout, Step, ItemChannel, ItemNews) as worker:
        yield worker


@pytest.fixture
def binding_on_the_server(transactional_db: None) -> Iterator[None]:
    """Have psycopg 3 bind parameters on the server, as psycopg2 cannot."""
    connection.close()
    connection.settings_dict["OPTIONS"]["server_side_binding"] = True
    yield
    connection.close()
    del connection.settings_dict["OPTIONS"]["server_side_binding"]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches grow slowly, and end for want of messages, never of time."""
    monkeypatch.setattr("pgpubsub_sql.worker.batch.QUICKEST_GROWTH", 2)
    monkeypatch.setattr("pgpubsub_sql.worker.batch.BATCH_SECONDS", 60.0)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A throw-away server, which all that speaks libpq here and in child processes uses."""
    settings = {
        "fsync": "off",
        # A transaction left by a failing test would block the TRUNCATE of each test after it.
        "idle_in_transaction_session_timeout": "60s",
        "max_connections": "200",
        "max_prepared_transactions": "5",
        "wal_level": "logical",
    }
    with contextlib.ExitStack() as stack:
        with in_memory():
            server = stack.enter_context(Server(settings=settings))
        before = dict(os.environ)
        os.environ.update(server.environment())
        yield server
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(server: Server) -> None:
    """Have the server up before pytest-django makes its test database."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a log hold lone surrogates: pytest-xdist, which sends it on as UTF-8, would crash."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report


def eventually(condition: Callable[[], object], *, within: float = DEADLINE_SECONDS) -> object:
    """Return the first true value of *condition*, asked again and again until a deadline."""
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"{condition} did not come true in {within} s"
        time.sleep(0.01)


LISTEN = (sys.executable, "-m", "django", "listen", "--loglevel", "debug")


class Listen:
    """A running ``manage.py listen``, or another *command*, *within* another; and its log."""

    def __init__(
        self,
        log: Path,
        *arguments: str,
        command: Sequence[str] = LISTEN,
        within: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.log_file = log
        env = os.environ | {
            "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
            "PGDATABASE": connection.settings_dict["NAME"],
        }
        env |= environment
        self.process: subprocess.Popen[bytes] | Preloaded
        with log.open("wb") as output:
            # PYTHONPATH is read by a Python that starts.
            if command == LISTEN and not within and "PYTHONPATH" not in environment:
                options = LISTEN[LISTEN.index("listen") :]
                self.process = Preloaded([*options, *arguments], cwd=ROOT, env=env, output=output)
            else:
                self.process = subprocess.Popen(
                    [*within, *command, *arguments],
                    cwd=ROOT,
                    env=env,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text()

    def ready(self, processes: int = 1) -> Listen:
        """Wait until so many workers listen."""
        eventually(lambda: self._failed() or self.log.count("Listening to") >= processes)
        self._failed()
        return self

    def stop(
        self, number: signal.Signals = signal.SIGTERM, *, within: float = DEADLINE_SECONDS
    ) -> int:
        """Send a signal to the process that was started, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(within)

    def kill(self) -> None:
        """Leave nothing behind, whatever the test did."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)

    def _failed(self) -> None:
        assert self.process.poll() is None, self.log


@pytest.fixture
def listen(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Listen]]:
    """Start ``manage.py listen`` with these arguments; whatever still runs is killed at the end."""
    started: list[Listen] = []

    def start(*arguments: str, **options: Any) -> Listen:
        started.append(Listen(tmp_path / f"listen-{len(started)}.log", *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.kill()
