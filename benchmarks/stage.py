"""The server, its databases, and the contestants that run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg2

from benchmarks.children import Child, ChildFailed, check_counts
from benchmarks.environments import OURS, python_of
from benchmarks.sizes import Sizes
from pgpubsub_sql.embedded import Server
from pgpubsub_sql.embedded.binaries import wheel_directories


class Contestant(NamedTuple):
    """A program, the environment it runs in, and its options."""

    program: str
    environment: str = OURS
    options: tuple[tuple[str, str], ...] = ()


def contestant(program: str, environment: str = OURS, **options: str) -> Contestant:
    """Return a contestant with *options*."""
    return Contestant(program, environment, tuple(options.items()))


HERE = contestant("ours")
"""Ours in the environment that runs the benchmark."""
DRIVER_HERE = "psycopg" if find_spec("psycopg") else "psycopg2"
"""Django's choice."""
RAW = contestant("raw")
PGPUBSUB = contestant("django_pgpubsub", "django-pgpubsub")
PEERS = {
    "PgQueuer, asyncpg": contestant("pgqueuer_", "pgqueuer"),
    "PgQueuer, asyncpg, tuned": contestant("pgqueuer_", "pgqueuer", batch="1000", loop="uvloop"),
    "PgQueuer, psycopg": contestant("pgqueuer_", "pgqueuer", driver="psycopg"),
    "PgQueuer, psycopg, tuned": contestant(
        "pgqueuer_", "pgqueuer", driver="psycopg", batch="1000", loop="uvloop"
    ),
    "pgmq": contestant("pgmq", "pgmq"),
    "pgmq, tuned": contestant("pgmq", "pgmq", batch="1000"),
}
SLOW_PEERS = {
    "django-pgpubsub": PGPUBSUB,
    "django-pgpubsub, tuned": contestant("django_pgpubsub", "django-pgpubsub", recover="yes"),
    "django-tasks-db": contestant("django_tasks_db", "django-tasks-db"),
    "procrastinate": contestant("procrastinate_", "procrastinate"),
    "procrastinate, tuned": contestant(
        "procrastinate_", "procrastinate", concurrency="20", delete="always"
    ),
}
"""Peers that handle less than 1,000 messages a second; tuned means the best known settings."""


WARM_UP = 10
"""Messages that a contestant drains before it is timed."""


@dataclass
class Stage:
    """A server with the contestants that were called to it; a context manager."""

    server: Server
    sizes: Sizes
    peers: bool = True
    """Whether to run what has to be installed: peers, and ours with the other driver."""
    left_out: list[str] = field(default_factory=list)
    """Peers that could not be run, and why."""

    def __post_init__(self) -> None:
        self._stack = ExitStack()
        self._children: dict[tuple[Contestant, str], Child] = {}
        self._databases: dict[Contestant, str] = {}
        self._templates: dict[Contestant, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def child(self, who: Contestant, database: str = "") -> Child:
        """Return the running child of a contestant, in its own database or another."""
        database = database or self.database(who)
        key = (who, database)
        if key not in self._children:
            self._children[key] = self._stack.enter_context(self.start(who, database))
        return self._children[key]

    def start(self, who: Contestant, database: str, **environment: str) -> Child:
        """Start another child of a contestant."""
        variables = self.server.environment() | {"PGDATABASE": database} | environment
        python = python_of(who.environment)
        return Child(who.program, python=python, environment=variables, **dict(who.options))

    def database(self, who: Contestant) -> str:
        """Return the database of a contestant, made when asked first."""
        if who not in self._databases:
            self._databases[who] = self.create_database(self.template(who))
        return self._databases[who]

    def template(self, who: Contestant) -> str:
        """Return a database that a contestant has set up and nobody is connected to."""
        if who not in self._templates:
            database = self.create_database()
            with self.start(who, database) as child:
                child.ask("set_up")
            self._templates[who] = database
        return self._templates[who]

    def create_database(self, template: str = "template1") -> str:
        """Create a database, which stays until the server ends, and return its name."""
        database = f"benchmark_{uuid.uuid4().hex}"
        self.execute("postgres", f"CREATE DATABASE {database} TEMPLATE {template}")
        return database

    def connect(self, database: str) -> psycopg2.extensions.connection:
        """Return a connection in autocommit mode, closed with the stage."""
        connection = psycopg2.connect(**self._address(database))
        connection.autocommit = True
        self._stack.callback(connection.close)
        return connection

    def execute(self, database: str, statement: str) -> Any:
        """Execute a statement on a connection of its own; return its single value, if any."""
        connection = psycopg2.connect(**self._address(database))
        connection.autocommit = True
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchall()[0][0] if cursor.description else None
        finally:
            connection.close()

    def drivers(self) -> dict[str, Contestant]:
        """Return ours by the name of the driver, the one of this environment first."""
        others = {"psycopg2", "psycopg"} - {DRIVER_HERE} if self.peers else set()
        return {DRIVER_HERE: HERE} | {name: contestant("ours", name) for name in others}

    def peers_that_run(self, peers: dict[str, Contestant]) -> dict[str, Contestant]:
        """Return those of *peers* that can be installed and set up; the others are left out."""
        found = {}
        for name, who in peers.items() if self.peers else ():
            try:
                self.child(who)
            except (ChildFailed, subprocess.CalledProcessError) as error:
                self.left_out.append(f"{name} is left out: {str(error).strip().splitlines()[-1]}")
            else:
                found[name] = who
        return found

    def drain(self, who: Contestant, workload: str, count: int) -> Callable[[], float]:
        """Return a run: drain *count* messages and return how many were handled a second."""
        child = self.child(who)
        child.ask("drain", workload=workload, count=WARM_UP)

        def run() -> float:
            report = child.ask("drain", workload=workload, count=count)
            check_counts(report, count)
            return count / float(report["seconds"])

        return run

    def program(self, name: str) -> str | None:
        """Return the path of a program of PostgreSQL, such as pgbench."""
        directories = [self.server.bin_dir, *wheel_directories()]
        path = os.pathsep.join([*map(str, directories), os.environ["PATH"]])
        return shutil.which(name, path=path)

    def _address(self, database: str) -> dict[str, Any]:
        server = self.server
        return {
            "host": server.host,
            "port": server.port,
            "user": server.user,
            "dbname": database,
        }
