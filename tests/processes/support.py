"""What tests of worker processes ask of them."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from pathlib import Path

from tests.conftest import Listen, eventually
from tests.delivery.sending import hasten
from tests.ledger import sql, stored

EVERY_WAY = [["--worker"], ["--worker-start-method", "spawn"], ["--worker-start-method", "fork"]]


def workers(listen: Listen) -> list[int]:
    """Return the process ids of the workers that were ever started, in order."""
    return [int(pid) for pid in re.findall(r"started as process (\d+)", listen.log)]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def free() -> int:
    """Return how many stored notifications are in nobody's hands."""
    return len(sql("SELECT 1 FROM pgpubsub_sql_notification FOR UPDATE SKIP LOCKED"))


def hastened_until_done() -> bool:
    """Do not wait until it is time to try again; say whether all is done."""
    hasten()
    sql("SELECT pg_notify('app.Job', '')")
    return not stored()


def ends_within_a_second(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    return process.returncode is not None


def abort(listen: Listen, number: signal.Signals) -> None:
    """Send the second signal to one that was sent the first, and wait until it has ended.

    The second has to come a second later; a third one could kill the process while it exits.
    """
    eventually(lambda: "To abort, send the signal again after 1 s" in listen.log)
    with contextlib.suppress(subprocess.TimeoutExpired):
        listen.process.wait(1.1)
    listen.stop(number)
