"""Many writers at once: pgbench, or processes of our own where there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

from benchmarks.environments import ROOT
from benchmarks.stage import Stage


class Written(NamedTuple):
    """What the writers have done."""

    transactions: int
    per_second: float


def write(
    stage: Stage,
    database: str,
    statement: str,
    *,
    writers: int,
    seconds: float,
    rate: float | None = None,
) -> Written:
    """Execute a statement again and again, one a transaction, at full speed or at a steady rate."""
    pgbench = stage.program("pgbench")
    environment = os.environ | stage.server.environment() | {"PGDATABASE": database}
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(statement)
        script.flush()
        options = {"client": writers, "jobs": min(2, writers), "time": round(seconds) or 1}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        arguments += [f"--rate={rate}"] if rate else []
        command = (
            [pgbench, "--no-vacuum", "--protocol=prepared"]
            if pgbench
            else [sys.executable, "-m", "benchmarks.writer"]
        )
        said = subprocess.run(
            [*command, *arguments, f"--file={script.name}"],
            env=environment,
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    return Written(
        int(_find(r"number of transactions actually processed: (\d+)", said)),
        float(_find(r"tps = ([\d.]+)", said)),
    )


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[1]
