"""Live workers: they run beside a test that commits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO

from django.conf import settings
from django.db import connections

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.testing.handling import Record, RecordingDispatcher
from pgpubsub_sql.testing.taps import ask
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.worker import Worker

START_SECONDS = 30.0
"""Longest time for a worker to start, and to end."""
LOOK_SECONDS = 0.02
"""Time between two looks whether it has started."""


class LiveWorker:
    """A worker that runs beside a test, in a thread or in processes."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Its name in the log and in ``pg_stat_activity``."""
        self.log = ""
        """What its processes have logged, once they have ended; empty for a thread."""


@contextmanager
def worker_thread(
    channels: Sequence[type[BaseChannel]], *, using: str, record: Record
) -> Iterator[LiveWorker]:
    """Run a worker in a thread within the block; *record* what it handles."""
    name = _name()
    worker = Worker(channels, using=using, name=name)
    worker.delivery = Delivery(
        channels,
        using=using,
        is_stopping=worker.shutdown.is_requested,
        name=name,
        dispatcher=partial(RecordingDispatcher, record=record),
        observe=record.ended,
    )
    failures: list[BaseException] = []
    thread = threading.Thread(target=_run, args=(worker, failures), name=name, daemon=True)
    thread.start()
    try:
        _await(lambda: worker.is_listening or not thread.is_alive())
        yield LiveWorker(name)
    finally:
        if thread.is_alive():
            worker.shutdown.request()
        thread.join(START_SECONDS)
    if failures:
        raise failures[0]


def _run(worker: Worker, failures: list[BaseException]) -> None:
    try:
        worker.run()
    except BaseException as error:  # noqa: BLE001 - the test raises it
        failures.append(error)
    finally:
        connections.close_all()


@contextmanager
def worker_processes(
    channels: Sequence[type[BaseChannel]], *, using: str, processes: int
) -> Iterator[LiveWorker]:
    """Run workers in processes of their own within the block, on the database of the test."""
    live = LiveWorker(_name())
    with tempfile.TemporaryFile("w+") as log:
        started: list[subprocess.Popen[bytes]] = []
        try:
            started += [_start(channels, using, live.name, log) for _ in range(processes)]
            _await(lambda: _has_ended(started) or _listening(using, live.name) == processes)
            if _has_ended(started):
                raise NotReady(f"A worker has ended before it listened:\n{_read(log)}")
            yield live
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(START_SECONDS)
            live.log = _read(log)


def _start(
    channels: Sequence[type[BaseChannel]], using: str, name: str, log: IO[str]
) -> subprocess.Popen[bytes]:
    names = [channel.postgres_name() for channel in channels]
    told = {
        "path": [str(each) for each in sys.path],
        "databases": {alias: connections[alias].settings_dict["NAME"] for alias in connections},
        "arguments": ["--worker", "--name", name, "--database", using, "--channels", *names],
    }
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _BOOTSTRAP, json.dumps(told)],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


_BOOTSTRAP = """\
import json, sys
told = json.loads(sys.argv[1])
sys.path[:] = told["path"]
import django
django.setup()
from django.core.management import call_command
from django.db import connections
for alias, name in told["databases"].items():
    connections[alias].settings_dict["NAME"] = name
call_command("listen", *told["arguments"], skip_checks=True)
"""


def _has_ended(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is not None for process in processes)


def _listening(using: str, name: str) -> int:
    return int(ask(using, "listening_workers", name=name)[0][0])


def _read(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _await(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds. Raises :class:`NotReady`."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if deadline < time.monotonic():
            raise NotReady(f"The worker does not listen after {START_SECONDS:g} seconds.")
        time.sleep(LOOK_SECONDS)


def _name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"
