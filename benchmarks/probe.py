"""What it costs that a channel's function tries its options before it writes.

::

    python benchmarks/probe.py

Each case is run with three functions, interleaved: one that does nothing, one that only tries, and
one that only writes. So the attempt is measured by itself: beside the writing it would be lost in
the noise. What is counted is the processor time of the backend, as the kernel has it: the clock on
the wall also counts what others do on the machine.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import django
import psycopg2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pgpubsub_sql.embedded import Server  # noqa: E402
from pgpubsub_sql.sql import render  # noqa: E402
from pgpubsub_sql.sql.ddl import Target, create  # noqa: E402
from pgpubsub_sql.sql.trigger import Trigger  # noqa: E402

RUNS = 11
MANY, SINGLE = 100_000, 5_000
COLUMNS = {"columns": ("id", "name")}
WATCH = {"watch": ("name",)}
CONDITION = {"condition": '("new"."name" LIKE \'n%\' AND "new"."number" >= 0)'}
INSERT = (
    "INSERT INTO watched (name, number, a, b, c) SELECT 'n' || n, n, repeat('x', 50), "
    "repeat('y', 50), now() FROM generate_series(1, {rows}) AS n"
)
UPDATE = "UPDATE watched SET name = name || 'x'"
TRIES = r"        BEGIN\n            PERFORM .*?        END;\n"
WRITES = r"        IF stale THEN\n.*?        END IF;\n"
LEFT_OUT = {"nothing": [TRIES, WRITES], "trying": [WRITES], "writing": [TRIES]}
"""What each function lacks of the one that a migration installs."""


class Case(NamedTuple):
    """A statement, and how the channel chooses."""

    name: str
    statement: str
    options: dict[str, Any]
    filled: bool = False
    """Whether there are rows already."""
    times: int = 1
    """How often it is executed, each time in a transaction of its own."""


CASES = [
    Case("100,000 rows inserted, columns", INSERT.format(rows=MANY), COLUMNS),
    Case("100,000 rows inserted, condition", INSERT.format(rows=MANY), CONDITION),
    Case(
        "100,000 rows inserted, columns and condition",
        INSERT.format(rows=MANY),
        COLUMNS | CONDITION,
    ),
    Case("100,000 rows updated, watch", UPDATE, WATCH, filled=True),
    Case("100,000 rows updated, condition", UPDATE, CONDITION, filled=True),
    Case("5,000 transactions of one row, columns", INSERT.format(rows=1), COLUMNS, times=SINGLE),
    Case(
        "5,000 transactions of one row, condition", INSERT.format(rows=1), CONDITION, times=SINGLE
    ),
]


class Bench:
    """A server, a session, and what its backend has worked."""

    def __init__(self, server: Server) -> None:
        os.environ.update(server.environment())
        self.connection = psycopg2.connect("")
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.pid = self.connection.get_backend_pid()

    def prepare(self, case: Case, does: str) -> None:
        """Make the table and its trigger, and plan everything once."""
        self.execute("DROP TABLE IF EXISTS watched CASCADE")
        self.execute("TRUNCATE pgpubsub_sql_notification")
        self.execute(
            "CREATE TABLE watched (id bigserial PRIMARY KEY, name text, number integer, "
            "a text, b text, c timestamptz)"
        )
        if case.filled:
            self.execute(INSERT.format(rows=MANY))
        trigger = Trigger(
            channel="watched",
            model="a.b",
            after=("insert", "update"),
            durable=True,
            **case.options,
        )
        target = Target(db_table="watched", schema="public", helpers="public", app="benchmark")
        for statement in create(trigger, target):
            for part in LEFT_OUT[does]:
                statement = re.sub(part, "", statement, flags=re.DOTALL)
            self.execute(statement)
        self.execute(INSERT.format(rows=1))
        self.execute("UPDATE watched SET number = 0 WHERE number = 1")
        self.execute("VACUUM ANALYZE watched")

    def milliseconds(self, case: Case) -> float:
        """Return the processor time that a case takes."""
        before = self._worked()
        for _ in range(case.times):
            self.execute(case.statement)
        return (self._worked() - before) / 1e6

    def execute(self, statement: str) -> None:
        self.cursor.execute(statement)

    def _worked(self) -> int:
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0])


def install(bench: Bench) -> None:
    """Make our table and helpers, as the first migration does."""
    bench.execute(
        "CREATE TABLE pgpubsub_sql_notification ("
        "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " channel varchar(63) NOT NULL, payload jsonb NOT NULL,"
        " created_at timestamptz NOT NULL DEFAULT clock_timestamp(),"
        " available_at timestamptz DEFAULT clock_timestamp(), expires_at timestamptz,"
        " attempts integer NOT NULL DEFAULT 0, last_error text NOT NULL DEFAULT '', key text)"
    )
    bench.execute(
        "CREATE INDEX ON pgpubsub_sql_notification (channel, available_at, id)"
        " WHERE available_at IS NOT NULL"
    )
    for helper in ("context_v1", "ignored_v1", "ring_v1", "ring"):
        bench.execute(render(f"helpers/{helper}", schema="public"))


def main() -> None:
    """Print a table."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")
    django.setup()
    with Server() as server:
        bench = Bench(server)
        install(bench)
        bench.execute("SELECT split_part(version(), ' on ', 1)")
        print(bench.cursor.fetchone()[0])
        print(f"{'':46}  writing  trying  (ms of processor time, medians of {RUNS})")
        for case in CASES:
            measured: dict[str, list[float]] = {does: [] for does in LEFT_OUT}
            for _ in range(RUNS):
                for does in LEFT_OUT:
                    bench.prepare(case, does)
                    measured[does].append(bench.milliseconds(case))
            nothing, trying, writing = (statistics.median(measured[does]) for does in LEFT_OUT)
            cost = trying - nothing
            print(f"{case.name:46} {writing:8.1f} {cost:7.1f} {100 * cost / writing:5.1f} %")


if __name__ == "__main__":
    main()
