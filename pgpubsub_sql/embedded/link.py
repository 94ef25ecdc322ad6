"""The parent's end of the pipes to its keeper."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from pgpubsub_sql.embedded.protocol import ORDERS, Mode, Plan
from pgpubsub_sql.errors import ServerError

# Imports the keeper without running __init__.py of pgpubsub_sql: it needs no Django, no
# site-packages, and should be there within milliseconds.
_KEEPER_PROGRAM = """
import sys, types
package = sys.modules["pgpubsub_sql"] = types.ModuleType("pgpubsub_sql")
package.__path__ = [sys.argv[1]]
from pgpubsub_sql.embedded.keeper import keep
keep(sys.argv[2])
"""


def start_keeper(plan: Plan) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).absolute().parents[1])
    program = [sys.executable, "-I", "-S", "-c", _KEEPER_PROGRAM, package]
    return subprocess.Popen(  # noqa: S603
        [*program, json.dumps(dataclasses.asdict(plan))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        start_new_session=True,
    )


def give_order(keeper: subprocess.Popen[bytes], again: bool, mode: Mode) -> None:
    assert keeper.stdin is not None  # noqa: S101
    code = next(code for code, order in ORDERS.items() if order == (again, mode))
    with contextlib.suppress(BrokenPipeError):  # it has ended: its reports or exit code say why
        keeper.stdin.write(code)


def next_report(keeper: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
    """Return the keeper's next report, or nothing if none came within ``timeout`` seconds."""
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


def wait_or_kill(process: subprocess.Popen[bytes], timeout: float) -> int:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
