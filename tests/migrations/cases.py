"""Cases: a project changes from one version to another, and its database with it.

::

    Case(
        "T2: a channel is removed",
        before=authors("insert"),
        after=authors(),
        writes=["blog: RemoveTrigger"],
        tells=[],
    )

:func:`walk` takes it through the real commands, one migration at a time, there and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.migrations.harness import Database, Files, Project

WRITES = (
    "INSERT INTO {table} (name) VALUES ('Ann')",
    "UPDATE {table} SET name = 'Bea'",
    "DELETE FROM {table}",
)


@dataclass(frozen=True)
class Case:
    """What ``makemigrations`` writes, and what is told afterwards."""

    name: str
    before: Files
    after: Files
    writes: Sequence[str]
    """The new migrations in the order in which they run, as ``app: Operation Operation``."""
    tells: Sequence[str]
    """What an insert, an update and a delete tell, as ``channel OPERATION``."""
    table: str = "blog_author"
    """The table that is written to afterwards."""
    watched: str = ""
    """The table that is watched afterwards, if it is another."""
    was: str = "blog_author"
    """The one that was written to before."""
    meanwhile: Sequence[str] = ()
    """What is told besides while only some of the new migrations have run."""
    answers: str = ""
    apps: Sequence[str] = ("blog",)

    def __str__(self) -> str:
        return self.name


def walk(project: Project, case: Case) -> None:
    """Assert that every step, in both directions, leaves behind what it should."""
    project.configure(apps=["pgpubsub_sql", *case.apps])
    install(project, case.before)
    old = project.plan()
    first, told = project.catalogue(), tell(project, case.was)

    project.write(case.after)
    project.run("makemigrations", answers=case.answers)
    new = [step for step in project.plan() if step not in old]
    assert [written(project, *step) for step in new] == [*case.writes]
    assert_quiet(project)

    allowed = {*told, *case.tells, *case.meanwhile}
    step_forwards(project, new, case, allowed)
    second = project.catalogue()
    assert second.tables <= {case.watched or case.table}
    assert tell(project, case.table) == [*case.tells]

    step_backwards(project, new, case, allowed)
    assert project.catalogue() == first
    assert tell(project, case.was) == told

    step_backwards(project, [step for step in old if step[0] in case.apps], case, allowed)
    assert project.catalogue() == frozenset()
    step_forwards(project, project.plan(), case, allowed)
    assert project.catalogue() == second
    assert tell(project, case.table) == [*case.tells]
    assert_quiet(project)


def install(project: Project, *files: Files, answers: str = "") -> None:
    """Bring the project, and its database, to these files."""
    for some in files:
        project.write(some)
    project.run("makemigrations", answers=answers)
    project.run("migrate")


def step_forwards(
    project: Project, steps: Iterable[tuple[str, str]], case: Case, allowed: set[str]
) -> None:
    """Migrate step by step, and write to the tables that there are after each of them."""
    for label, name in steps:
        project.run("migrate", label, name)
        assert_writable(project, case, allowed)


def step_backwards(
    project: Project, steps: Sequence[tuple[str, str]], case: Case, allowed: set[str]
) -> None:
    """The same, back to where each of *steps* started."""
    plan = project.plan()
    for label, name in reversed(steps):
        earlier = [n for one, n in plan[: plan.index((label, name))] if one == label]
        project.run("migrate", label, earlier[-1] if earlier else "zero")
        assert_writable(project, case, allowed)


def assert_writable(project: Project, case: Case, allowed: set[str]) -> None:
    """Every write succeeds, and tells once what it told before, or will, or nothing."""
    for table in {case.was, case.table}:
        told = tell(project, table)
        assert len({*told}) == len(told)
        assert {*told} <= allowed


def tell(database: Database, table: str = "blog_author") -> list[str]:
    """Write in every way to *table*, if there is one, and return what is told."""
    told = database.told(*(write.format(table=table) for write in WRITES), table=table)
    return [f"{channel} {operation}" for channel, operation in told]


def assert_quiet(project: Project) -> None:
    """``makemigrations`` has nothing more to say, and writes nothing."""
    before = project.plan()
    assert "No changes detected" in project.run("makemigrations", "--check")
    assert "No changes detected" in project.run("makemigrations")
    assert project.plan() == before


def written(project: Project, label: str, name: str) -> str:
    """Return a migration as a case has it."""
    return f"{label}: {' '.join(operations(project.source(label, name)))}"


def operations(migration: str) -> list[str]:
    """Return the names of the operations of a migration, as its source has them."""
    body = migration.partition("operations = [")[2]
    return re.findall(r"^        (?:\w+\.)*(\w+)\(", body, flags=re.MULTILINE)
