"""Orders from a parent to its keeper, reports from the keeper to its parent, and their pipes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from pgpubsub_sql.errors import ServerError

Mode = Literal["fast", "immediate"]

# An order is one byte. It says whether to start the server again, and how to stop it.
ORDERS: dict[bytes, tuple[bool, Mode]] = {
    b"r": (True, "fast"),
    b"R": (True, "immediate"),
    b"s": (False, "fast"),
    b"S": (False, "immediate"),
}

# Imports the keeper without running __init__.py of pgpubsub_sql: the keeper needs neither Django
# nor site-packages, and should be up within milliseconds.
KEEPER_PROGRAM = """
import sys, types
package = sys.modules["pgpubsub_sql"] = types.ModuleType("pgpubsub_sql")
package.__path__ = [sys.argv[1]]
from pgpubsub_sql.embedded.keeper import keep
keep(sys.argv[2])
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The server that the parent wants, as the keeper's argument."""

    bin_dir: str
    data_dir: str | None
    host: str
    """The socket's directory of an earlier start, or empty."""
    temporary: str
    port: int
    user: str
    settings: dict[str, str]
    start_timeout: float
    shutdown_timeout: float
    parent: int
    """Process id of the parent."""


def start_keeper(config: ServerConfig) -> subprocess.Popen[bytes]:
    """Start the keeper, in a session of its own."""
    package = str(Path(__file__).absolute().parents[1])
    program = [sys.executable, "-I", "-S", "-c", KEEPER_PROGRAM, package]
    return subprocess.Popen(  # noqa: S603
        [*program, json.dumps(dataclasses.asdict(config))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        start_new_session=True,
    )


def send_order(keeper: subprocess.Popen[bytes], again: bool, mode: Mode) -> None:
    """Tell the keeper to stop the server, and to start it *again* or clean up."""
    assert keeper.stdin is not None  # noqa: S101
    code = next(code for code, order in ORDERS.items() if order == (again, mode))
    with contextlib.suppress(BrokenPipeError):  # it has ended: its reports or exit code say why
        keeper.stdin.write(code)


def next_report(keeper: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
    """Return the keeper's next report; an empty one if none comes within *timeout* seconds.

    Raises ``ServerError`` if the keeper failed or has ended.
    """
    assert keeper.stdout is not None  # noqa: S101
    poll = select.poll()  # not select(): this process may have more than 1024 files open
    poll.register(keeper.stdout, select.POLLIN)
    if not poll.poll(max(timeout, 0) * 1000):
        return {}
    line = keeper.stdout.readline()
    report: dict[str, Any] = json.loads(line) if line else {"failed": "The keeper has ended."}
    if "failed" in report:
        raise ServerError(report["failed"])
    return report


def send_report(**report: object) -> None:
    """Report to the parent; called in the keeper."""
    with contextlib.suppress(BrokenPipeError):  # the parent has gone
        os.write(1, json.dumps(report).encode() + b"\n")
