"""How fast one worker drains what is stored: ``python -m benchmarks.drain``.

For backlogs of 1,000, 10,000 and 100,000 durable messages, with listeners that do nothing, that
get a model instance and do nothing, and that insert a row: messages a second, the median of
several runs, and the slowest and the quickest. Beside them, in the same run, stands what the same
server and driver do in a loop of nothing but ``DELETE ... RETURNING``, and in a plain loop of the
same inserts.

The server is one of its own, with fsync on and PostgreSQL's default settings. Each run checks that
every message was handled exactly once.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgpubsub_sql.embedded import Server

if TYPE_CHECKING:
    from benchmarks.workloads import Workload

BACKLOGS = (1_000, 10_000, 100_000)
SYNCS = 200


def main() -> None:
    """Measure, and print a line a workload."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--backlogs", type=int, nargs="+", default=BACKLOGS)
    parser.add_argument("--only", metavar="WORDS", default="", help="Workloads of such a name.")
    options = parser.parse_args()
    with django_on_a_server():
        from benchmarks.workloads import WORKLOADS

        workloads = [one for one in WORKLOADS if options.only in one.name]
        describe_machine(options.runs)
        found = {
            backlog: rates(workloads, backlog, options.runs) for backlog in sorted(options.backlogs)
        }
    print(f"{'':<26}" + "".join(f"{backlog:>26,}" for backlog in found))
    for workload in workloads:
        cells = [cell(of_each[workload]) for of_each in found.values()]
        print(f"{workload.name:<26}" + "".join(f"{one:>26}" for one in cells))


@contextmanager
def django_on_a_server() -> Iterator[None]:
    """Set Django up on a server of its own."""
    with Server() as server:
        os.environ.update(server.environment())
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield


def describe_machine(runs: int) -> None:
    """Print what the figures depend on."""
    from django.db import connection

    connection.ensure_connection()
    version = connection.pg_version
    driver = connection.Database.__version__.partition(" ")[0]
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, PostgreSQL {version // 10000}.{version % 10000}, "
        f"{connection.Database.__name__} {driver}, {os.cpu_count()} cores, load {load:.1f}, "
        f"fdatasync {sync_seconds() * 1e6:.0f} \u00b5s; median of {runs} runs (slowest, quickest)"
    )


def sync_seconds() -> float:
    """Return the median of what it takes to write a page to the disk."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            file.write(b"x" * 8192)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took)


def rates(workloads: list[Workload], backlog: int, runs: int) -> dict[Workload, list[float]]:
    """Return the messages a second of so many runs, each of all the workloads in turn."""
    found: dict[Workload, list[float]] = {workload: [] for workload in workloads}
    for _ in range(runs):
        for workload in workloads:
            workload.prepare(backlog)
            started = time.perf_counter()
            workload.drain()
            found[workload].append(backlog / (time.perf_counter() - started))
            workload.check(backlog)
    return found


def cell(found: list[float]) -> str:
    """Return a cell of the table."""
    return f"{statistics.median(found):,.0f} ({min(found):,.0f}, {max(found):,.0f})"


if __name__ == "__main__":
    main()
