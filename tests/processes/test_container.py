"""A worker as process 1 of a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgpubsub_sql import notify
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, numbers, waiting
from tests.processes.support import EVERY_WAY, ends_within_a_second

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


ONE = ["unshare", "--pid", "--fork", "--kill-child"]
can_be_one = pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([*ONE, "true"], capture_output=True).returncode != 0,
    reason="needs the right to make a PID namespace",
)


def family(pid: int) -> list[int]:
    """Return the children of a process, zombies included."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@can_be_one
@pytest.mark.parametrize("way", EVERY_WAY)
def test_process_1_of_a_container_reaps_orphans_and_can_be_aborted(
    listen: Start, way: list[str]
) -> None:
    """F54: PostgreSQL rolls back the messages in flight."""
    listener = listen("--channels", "app.Job", *way, within=ONE)
    jobs("leave an orphan", "leave an orphan")
    eventually(lambda: sorted(numbers("do_job")) == [1, 2])
    (one,) = family(listener.process.pid)
    eventually(lambda: len(family(one)) == 1)
    with listeners_wait():
        notify(Job(number=3, mood="wait"))
        eventually(waiting)

        def ends() -> bool:
            os.kill(one, signal.SIGTERM)
            return ends_within_a_second(listener.process, signal.SIGCONT)

        eventually(ends)
    assert listener.process.returncode == 1


@can_be_one
def test_process_1_of_a_container_ends_gracefully(listen: Start) -> None:
    """F54."""
    listener = listen("--channels", "app.Job", "--worker", within=ONE)
    listener.ready()
    (one,) = family(listener.process.pid)
    os.kill(one, signal.SIGTERM)
    assert listener.process.wait(30) == 0
