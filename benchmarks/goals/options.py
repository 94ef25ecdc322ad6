"""What it costs that a channel's function tries its options before it writes.

Each case has three functions: one that does nothing, one that only tries, and one that only writes.
So the trial is measured by itself: beside the writing it would be lost in the noise. What counts is
the processor time of the backend, which other processes on the machine do not change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.goals.writing import copy
from benchmarks.running import Figures, Outcome, Table, interleave, median
from benchmarks.stage import Stage
from pgpubsub_sql.sql.ddl import Target, create
from pgpubsub_sql.sql.trigger import Trigger

COLUMNS = {"columns": ("id", "name")}
WATCH = {"watch": ("name",)}
CONDITION = {"condition": '("new"."name" LIKE \'n%\' AND "new"."number" >= 0)'}
CREATE = (
    "CREATE TABLE watched (id bigserial PRIMARY KEY, name text, number integer, "
    "a text, b text, c timestamptz)"
)
INSERT = (
    "INSERT INTO watched (name, number, a, b, c) SELECT 'n' || n, n, repeat('x', 50), "
    "repeat('y', 50), now() FROM generate_series(1, {rows}) AS n"
)
UPDATE = "UPDATE watched SET name = name || 'x'"
TRIES = r"        BEGIN\n            -- An error here .*?        END;\n"
WRITES = r"        IF stale THEN\n.*?        END IF;\n"
LEFT_OUT = {"nothing": (TRIES, WRITES), "trying": (WRITES,), "writing": (TRIES,)}
"""What each function lacks of the one that a migration installs."""


class Case(NamedTuple):
    """A statement, and how the channel chooses."""

    name: str
    statement: str
    options: dict[str, Any]
    rows: int = 0
    """Rows that are there already."""
    times: int = 1
    """How often it is executed, each time in a transaction of its own."""


def options(stage: Stage) -> Outcome:
    """Take the processor time that trials of a channel's options need."""
    many, single = stage.sizes.rows, stage.sizes.statements
    inserted, one_row = INSERT.format(rows=many), INSERT.format(rows=1)
    cases = (
        Case(f"{many:,} rows inserted, columns", inserted, COLUMNS),
        Case(f"{many:,} rows inserted, condition", inserted, CONDITION),
        Case(f"{many:,} rows inserted, both", inserted, COLUMNS | CONDITION),
        Case(f"{many:,} rows updated, watch", UPDATE, WATCH, rows=many),
        Case(f"{many:,} rows updated, condition", UPDATE, CONDITION, rows=many),
        Case(f"{single:,} transactions of one row, columns", one_row, COLUMNS, times=single),
        Case(f"{single:,} transactions of one row, condition", one_row, CONDITION, times=single),
    )
    session = Session(stage)
    found = interleave(
        {(case.name, does): session.run(case, does) for case in cases for does in LEFT_OUT},
        stage.sizes.runs,
    )
    tables = [_table(case, {does: found[case.name, does] for does in LEFT_OUT}) for case in cases]
    notes = [_note(table) for table in tables]
    return Outcome(tables=tables, verdicts=[], notes=notes)


def _table(case: Case, figures: Figures) -> Table:
    return Table(title=case.name, unit="ms of processor time", figures=figures, best_is_high=False)


def _note(table: Table) -> str:
    nothing, trying, writing = (median(table.figures[does]) for does in LEFT_OUT)
    cost = trying - nothing
    return f"{table.title}: {writing:.1f} ms, trial {cost:.1f} ms, {cost / writing:.1%}"


class Session:
    """A session, and the processor time of its backend."""

    def __init__(self, stage: Stage) -> None:
        connection = stage.connect(copy(stage))
        self.execute = connection.cursor().execute
        self._statistics = Path(f"/proc/{connection.info.backend_pid}/schedstat")

    def run(self, case: Case, does: str) -> Callable[[], float]:
        """Return a run: the milliseconds that a case takes."""

        def run() -> float:
            self._prepare(case, does)
            before = self._worked()
            for _ in range(case.times):
                self.execute(case.statement)
            return (self._worked() - before) / 1e6

        return run

    def _prepare(self, case: Case, does: str) -> None:
        """Make the table and its trigger, and plan everything once."""
        self.execute("DROP TABLE IF EXISTS watched CASCADE")
        self.execute("TRUNCATE pgpubsub_sql_notification")
        self.execute(CREATE)
        self.execute(INSERT.format(rows=case.rows))
        for statement in _installing(case, does):
            self.execute(statement)
        self.execute(INSERT.format(rows=1))
        self.execute("UPDATE watched SET number = 0 WHERE number = 1")
        self.execute("VACUUM ANALYZE watched")

    def _worked(self) -> int:
        return int(self._statistics.read_text().split()[0])


def _installing(case: Case, does: str) -> list[str]:
    """Return the statements that install a channel's function without what is left out."""
    trigger = Trigger(
        channel="watched", model="a.b", after=("insert", "update"), durable=True, **case.options
    )
    target = Target(db_table="watched", schema="public", helpers="public", app="benchmark")
    function, *triggers = create(trigger, target)
    for part in LEFT_OUT[does]:
        function, found = re.subn(part, "", function, flags=re.DOTALL)
        assert found, f"The function has no part like {part!r}."
    return [function, *triggers]
