"""``python -m tests.ecosystem DIRECTORY [PACKAGE …]``: try packages one after another."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2

from pgpubsub_sql.embedded import Server, find_binaries
from tests.ecosystem import scenario
from tests.ecosystem.environments import environment, versions
from tests.ecosystem.packages import BOTH, PACKAGES, Package
from tests.ecosystem.pooler import pgbouncer
from tests.ecosystem.trial import Failure, Trial


def main() -> int:
    """Try what is asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.ecosystem")
    parser.add_argument("directory", type=Path, help="where all of it is kept")
    parser.add_argument(
        "packages", nargs="*", metavar="PACKAGE", help=" ".join(one.label for one in PACKAGES)
    )
    parser.add_argument("--driver", choices=BOTH, help="only this one")
    arguments = parser.parse_args()
    if unknown := set(arguments.packages) - {one.label for one in PACKAGES}:
        parser.error(f"There is no {', '.join(sorted(unknown))}.")
    wanted = [one for one in PACKAGES if one.label in arguments.packages or not arguments.packages]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which stops all that was started
    with ExitStack() as servers:
        drivers = [arguments.driver] if arguments.driver else BOTH
        rows = list(results(wanted, drivers, arguments.directory.absolute(), Servers(servers)))
    print_table(rows)
    return int(any(result not in ("works", "") and "skipped" not in result for *_, result in rows))


class Servers:
    """The servers that are needed: one, unless a package asks for another."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[Path, Server] = {}

    def address(self, programs: Path | None) -> dict[str, str]:
        """Return where a server of these programs, or of any, is."""
        programs = programs or find_binaries()
        if programs not in self._running:
            server = Server(bin_dir=programs, settings={"fsync": "off", "max_connections": 200})
            self._running[programs] = self._stack.enter_context(server)
        return self._running[programs].environment()


def results(
    packages: list[Package], drivers: Collection[str], directory: Path, servers: Servers
) -> Iterator[tuple[str, str, str, str]]:
    """Yield package, versions, driver and result."""
    for package in packages:
        if lack := package.lack():
            yield package.name, "", "", f"skipped: {lack}"
            continue
        python = environment(directory / "environments" / package.environment, package.requirements)
        tried = versions(python, package.requirements)
        for driver in (one for one in package.drivers if one in drivers):
            started = time.monotonic()
            with address_of(package, driver, servers) as (address, direct):
                place = directory / "trials" / f"{package.label}-{driver}"
                trial = Trial(package, driver, place, python, address=address, direct=direct)
                result = outcome(trial)
            seconds = time.monotonic() - started
            print(f"{package.name}, {driver}: {result} ({seconds:.0f} s)", flush=True)
            yield package.name, tried, driver, result


@contextmanager
def address_of(
    package: Package, driver: str, servers: Servers
) -> Iterator[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Make a database; yield where the project finds it, and where it is."""
    direct = servers.address(package.programs())
    name = f"{package.label}-{driver}"
    with_user = {"host": direct["PGHOST"], "port": direct["PGPORT"], "user": direct["PGUSER"]}
    connection = psycopg2.connect(**with_user, dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()
    direct = direct | {"PGDATABASE": name}
    if not package.pool_mode:
        yield direct, direct
    else:
        with pgbouncer(package.pool_mode, direct) as pooled:
            yield pooled, direct


def outcome(trial: Trial) -> str:
    """Return what becomes of a trial, in one line; tell what may help to mend it."""
    try:
        getattr(scenario, trial.package.scenario)(trial)
    except Failure as failure:
        print(
            f"\n--- {trial.directory.name}: {failure}\n{failure.details[-2500:]}\n---", flush=True
        )
        return str(failure)
    return "works"


def print_table(rows: list[tuple[str, str, str, str]]) -> None:
    """Print package, versions, driver and result in columns."""
    rows = [("package", "versions", "driver", "result"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print()
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[3]]).rstrip())


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
