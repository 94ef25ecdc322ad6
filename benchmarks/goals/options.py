"""What statements on a watched table cost: what travels, and what a channel's options add.

What counts is the processor time of the backend, which other processes on the machine do not
change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.children import Miscounted
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
UPDATE_ONE = "UPDATE watched SET number = number + 1 WHERE id = 1"
DELETE = "DELETE FROM watched"
TRIES = r"        BEGIN\n            -- An error here .*?        END;\n"
WRITES = r"        IF stale THEN\n.*?        END IF;\n"
LEFT_OUT = {"nothing": (TRIES, WRITES), "trying": (WRITES,), "writing": (TRIES,)}
"""What each function lacks of the one that a migration installs."""


TRAVELLING: dict[str, dict[str, Any]] = {
    "all columns": {},
    "three columns": {"columns": ("id", "name", "number")},
    "key only": {"columns": ("id",)},
}
"""The options of channels whose messages hold more or less."""


class Case(NamedTuple):
    """A statement, and how the channel chooses."""

    name: str
    statement: str
    options: Mapping[str, Any] = MappingProxyType({})
    rows: int = 0
    """Rows that are there already."""
    times: int = 1
    """How often it is executed, each time in a transaction of its own."""


class Cost(NamedTuple):
    """What statements have cost."""

    milliseconds: float
    """Of the backend's processor."""
    wal: int
    """Bytes."""


def watched(stage: Stage) -> Outcome:
    """Take the processor time and the WAL of each kind of statement, by what travels."""
    many, single = stage.sizes.rows, stage.sizes.statements
    times = max(1, single // 10)
    cases = [
        (Case(f"{single:,} INSERTs of one row", INSERT.format(rows=1), times=single), single),
        (Case(f"{single:,} UPDATEs of one row", UPDATE_ONE, rows=1, times=single), single),
        (
            Case(f"{times:,} INSERTs of 100 rows", INSERT.format(rows=100), times=times),
            times * 100,
        ),
        (Case(f"INSERT of {many:,} rows", INSERT.format(rows=many)), many),
        (Case(f"UPDATE of {many:,} rows", UPDATE, rows=many), many),
        (Case(f"DELETE of {many:,} rows", DELETE, rows=many), many),
    ]
    session = Session(stage)
    kinds = {"no trigger": None, **TRAVELLING}
    found = interleave(
        {
            (case.name, kind): session.run(
                case, [] if given is None else _function(given), stores=0 if given is None else rows
            )
            for case, rows in cases
            for kind, given in kinds.items()
        },
        stage.sizes.runs,
    )
    tables = []
    for case, rows in cases:
        costs = {kind: found[case.name, kind] for kind in kinds}
        for title, unit, figure in (
            ("processor", "µs/row", lambda cost: cost.milliseconds * 1000),
            ("WAL", "bytes/row", lambda cost: cost.wal),
        ):
            figures = {kind: [figure(one) / rows for one in runs] for kind, runs in costs.items()}
            tables.append(
                Table(
                    title=f"{case.name}, {title}",
                    unit=unit,
                    figures=figures,
                    best_is_high=False,
                    ours=tuple(TRAVELLING),
                    limit="no trigger",
                )
            )
    return Outcome(tables=tables, verdicts=[])


def options(stage: Stage) -> Outcome:
    """Take the processor time that trials of a channel's options need.

    Each case has three functions: one that does nothing, one that only tries, and one that only
    writes. So the trial is measured by itself: beside the writing it would be lost in the noise.
    """
    many, single = stage.sizes.rows, stage.sizes.statements
    inserted, one_row = INSERT.format(rows=many), INSERT.format(rows=1)
    cases = (
        (Case(f"{many:,} rows inserted, columns", inserted, COLUMNS), many),
        (Case(f"{many:,} rows inserted, condition", inserted, CONDITION), many),
        (Case(f"{many:,} rows inserted, both", inserted, COLUMNS | CONDITION), many),
        (Case(f"{many:,} rows updated, watch", UPDATE, WATCH, rows=many), many),
        (Case(f"{many:,} rows updated, condition", UPDATE, CONDITION, rows=many), many),
        (
            Case(f"{single:,} transactions of one row, columns", one_row, COLUMNS, times=single),
            single,
        ),
        (
            Case(
                f"{single:,} transactions of one row, condition", one_row, CONDITION, times=single
            ),
            single,
        ),
    )
    session = Session(stage)
    found = interleave(
        {
            (case.name, does): session.run(
                case, _part(case.options, does), stores=rows if does == "writing" else 0
            )
            for case, rows in cases
            for does in LEFT_OUT
        },
        stage.sizes.runs,
    )
    tables = [
        _table(
            case, {does: [one.milliseconds for one in found[case.name, does]] for does in LEFT_OUT}
        )
        for case, _ in cases
    ]
    notes = [_note(table) for table in tables]
    return Outcome(tables=tables, verdicts=[], notes=notes)


def _table(case: Case, figures: Figures) -> Table:
    return Table(title=case.name, unit="ms of processor time", figures=figures, best_is_high=False)


def _note(table: Table) -> str:
    nothing, trying, writing = (median(table.figures[does]) for does in LEFT_OUT)
    cost = trying - nothing
    return f"{table.title}: {writing:.1f} ms, trial {cost:.1f} ms, {cost / writing:.1%}"


class Session:
    """A session, the processor time of its backend, and the WAL."""

    def __init__(self, stage: Stage) -> None:
        connection = stage.connect(copy(stage))
        self._cursor = connection.cursor()
        self.execute = self._cursor.execute
        self._statistics = Path(f"/proc/{connection.info.backend_pid}/schedstat")

    def run(self, case: Case, installing: list[str], *, stores: int) -> Callable[[], Cost]:
        """Return a run: what a case costs with what these statements install.

        It has to store so many messages, or raises :class:`Miscounted`.
        """

        def run() -> Cost:
            self._prepare(case, installing)
            written, worked = self._written(), self._worked()
            for _ in range(case.times):
                self.execute(case.statement)
            cost = Cost((self._worked() - worked) / 1e6, self._written() - written)
            self.execute("SELECT count(*) FROM pgpubsub_sql_notification")
            ((stored,),) = self._cursor.fetchall()
            if stored != stores:
                raise Miscounted(f"{case.name} has stored {stored} messages instead of {stores}.")
            return cost

        return run

    def _prepare(self, case: Case, installing: list[str]) -> None:
        """Make the table and its trigger, and plan everything once."""
        self.execute("DROP TABLE IF EXISTS watched CASCADE")
        self.execute(CREATE)
        self.execute(INSERT.format(rows=case.rows))
        for statement in installing:
            self.execute(statement)
        self.execute(INSERT.format(rows=1))
        self.execute("UPDATE watched SET number = 0 WHERE number = 1")
        self.execute(f"DELETE FROM watched WHERE id > {case.rows}")
        self.execute("VACUUM ANALYZE watched")
        self.execute("TRUNCATE pgpubsub_sql_notification")

    def _worked(self) -> int:
        return int(self._statistics.read_text().split()[0])

    def _written(self) -> int:
        self.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
        ((position,),) = self._cursor.fetchall()
        return int(position)


def _function(given: Mapping[str, Any]) -> list[str]:
    """Return the statements that install the function of a channel with these options."""
    trigger = Trigger(
        channel="watched", model="a.b", after=("insert", "update", "delete"), durable=True, **given
    )
    target = Target(db_table="watched", schema="public", helpers="public", app="benchmark")
    return [*create(trigger, target)]


def _part(given: Mapping[str, Any], does: str) -> list[str]:
    """Return the same for a function without what is left out."""
    function, *triggers = _function(given)
    for part in LEFT_OUT[does]:
        function, found = re.subn(part, "", function, flags=re.DOTALL)
        assert found, f"The function has no part like {part!r}."
    return [function, *triggers]
