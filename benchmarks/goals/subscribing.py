"""Goal 15: what subscriptions of a channel cost those who write, and that there may be some.

What counts is the processor time of the backend, which other processes do not change.
What a batch listener gains is a part of goal 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.goals.writing import CHANNEL, INSERT, ROWS, TRUNCATE, copy
from benchmarks.running import Outcome, Table, Verdict, interleave, median, ratio
from benchmarks.stage import Stage

NAMES = {"no name": (), "one": ("one",), "two": ("one", "two"), "three": ("one", "two", "three")}
"""What is registered, by contestant."""
WITHOUT = "no look-up"
"""The contestant that does not ask for which subscriptions to store: the trigger's function without
the join, as if there were none."""
JOIN = re.compile(r"LEFT JOIN \S+pgpubsub_sql_subscription AS subscription ON \S+ = '[^']*';")
FUNCTION = """
    SELECT pg_get_functiondef(tgfoid) FROM pg_trigger
    WHERE tgrelid = 'project_item'::regclass AND NOT tgisinternal AND tgtype & 4 <> 0"""
LONGEST_LOOK_UP = 6.0
"""Microseconds of a statement."""
UNREGISTER = f"DELETE FROM pgpubsub_sql_subscription WHERE channel = '{CHANNEL}'"
REGISTER = f"INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES ('{CHANNEL}', %s)"
ROUNDS = 10
"""Turns for each run of one-row statements, of which each has so small a part of them."""
WARM = 20
"""Statements that are executed before, so that all is planned and cached."""


def subscribing(stage: Stage) -> Outcome:
    """Take the processor time of writers whose messages are stored for several subscriptions."""
    session = Session(stage)
    single, many = max(1, stage.sizes.statements // ROUNDS), stage.sizes.rows
    cases = {
        f"{single:,} statements of one row": (INSERT, single),
        f"{many:,} rows in one statement": (ROWS.format(count=many), 1),
    }
    tables, verdicts = [], []
    for title, (statement, times) in cases.items():
        runs = {name: session.run(names, statement, times) for name, names in NAMES.items()}
        runs[WITHOUT] = session.run((), statement, times, looks_up=False)
        figures = interleave(runs, stage.sizes.runs * (ROUNDS if times > 1 else 1))
        tables.append(
            Table(
                title=title,
                unit="ms of processor time",
                figures=figures,
                best_is_high=False,
                ours=tuple(figures),
            )
        )
        verdicts.append(
            Verdict(
                what=f"{title}: two / one",
                value=ratio(figures, "two", "one"),
                bound=1.6,
                at_least=False,
            )
        )
        if times > 1:
            pairs = zip(figures["no name"], figures[WITHOUT], strict=True)
            verdicts.append(
                Verdict(
                    what="the look-up of subscriptions in a statement of one row",
                    value=median([(one - other) / times * 1000 for one, other in pairs]),
                    bound=LONGEST_LOOK_UP,
                    at_least=False,
                    unit="µs",
                )
            )
    return Outcome(tables=tables, verdicts=verdicts)


class Session:
    """A writer's session, and the processor time of its backend."""

    def __init__(self, stage: Stage) -> None:
        connection = stage.connect(copy(stage))
        cursor = connection.cursor()
        self.execute = cursor.execute
        self.execute(FUNCTION)
        ((self._function,),) = cursor.fetchall()
        self._bare, joins = JOIN.subn(";", self._function.replace("subscription.name", "NULL"))
        assert joins == 1
        self._statistics = Path(f"/proc/{connection.info.backend_pid}/schedstat")

    def run(
        self, names: tuple[str, ...], statement: str, times: int, *, looks_up: bool = True
    ) -> Callable[[], float]:
        """Return a run: the milliseconds that *times* statements take."""

        def run() -> float:
            self.execute(self._function if looks_up else self._bare)
            self.execute(TRUNCATE)
            self.execute(UNREGISTER)
            for name in names:
                self.execute(REGISTER, (name,))
            for _ in range(WARM):
                self.execute(INSERT)
            before = self._worked()
            for _ in range(times):
                self.execute(statement)
            return (self._worked() - before) / 1e6

        return run

    def _worked(self) -> int:
        return int(self._statistics.read_text().split()[0])
