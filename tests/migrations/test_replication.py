"""Triggers on tables that a subscription fills."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import eventually
from tests.migrations.cases import install
from tests.migrations.harness import Database, Project
from tests.migrations.versions import authors, model
from tests.registries import announce_sleep

EVENTS = ("insert", "update", "delete", "truncate")
TABLE = "CREATE TABLE blog_author (id bigint PRIMARY KEY, name text)"
_names = itertools.count()


class Replica:
    """A database whose table ``blog_author`` a subscription fills from that of *source*."""

    def __init__(self, source: Database, target: Project) -> None:
        self.source = source
        self.target = target
        self.name = f"replica_{os.getpid()}_{next(_names)}"
        source.sql(TABLE)
        source.sql("INSERT INTO blog_author VALUES (1, 'Ann')")
        source.sql(f"CREATE PUBLICATION {self.name} FOR TABLE blog_author")

    def subscribe(self) -> None:
        """Begin, and wait for what there was before."""
        # Within one server the slot has to be there already.
        self.source.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", self.name)
        where = f"host={os.environ['PGHOST']} port={os.environ['PGPORT']} dbname={self.source.name}"
        self.target.sql(
            f"CREATE SUBSCRIPTION {self.name} CONNECTION '{where} user={os.environ['PGUSER']}'"
            f" PUBLICATION {self.name} WITH (create_slot = false, slot_name = '{self.name}')"
        )
        eventually(
            lambda: self.target.sql("SELECT 1 FROM pg_subscription_rel WHERE srsubstate = 'r'")
        )

    def unsubscribe(self) -> None:
        """Leave nothing behind that would hold the databases."""
        if self.target.sql("SELECT 1 FROM pg_subscription WHERE subname = %s", self.name):
            self.target.sql(f"DROP SUBSCRIPTION {self.name}")
        elif self.source.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", self.name):
            self.source.sql("SELECT pg_drop_replication_slot(%s)", self.name)

    def told(self, *writes: str) -> list[str]:
        """Write on the source; return which operations the target tells of, as they arrive."""
        for write in writes:
            self.source.sql(write)
        marker = next(_names) + 1000
        self.source.sql(f"INSERT INTO blog_author VALUES ({marker}, 'marker')")
        eventually(lambda: self.target.sql("SELECT 1 FROM blog_author WHERE id = %s", marker))
        stored = self.target.sql(
            "DELETE FROM pgpubsub_sql_notification"
            " RETURNING id, payload->>'op', payload->'new'->>'name'"
        )
        return [op for _, op, name in sorted(stored) if name != "marker"]

    def every_write(self) -> list[str]:
        """Return which operations are told of one of each kind."""
        return self.told(
            f"INSERT INTO blog_author VALUES ({next(_names) + 10}, 'Bo'), (9, 'Cy')",
            "UPDATE blog_author SET name = 'Di' WHERE id = 9",
            "DELETE FROM blog_author WHERE id = 9",
            "TRUNCATE blog_author",
        )


@pytest.fixture
def replica(project: Project, other: Database) -> Iterator[Replica]:
    replica = Replica(other, project)
    yield replica
    replica.unsubscribe()


def warnings(project: Project) -> str:
    return project.run("check", "--database", "default")


def enable(project: Project, state: str) -> None:
    """Set all the channel's triggers."""
    names = project.sql("SELECT quote_ident(tgname) FROM pg_trigger WHERE NOT tgisinternal")
    actions = ", ".join(f"{state} TRIGGER {name}" for (name,) in names)
    project.sql(f"ALTER TABLE blog_author {actions}")


@pytest.mark.parametrize("state", ["ENABLE ALWAYS", "ENABLE REPLICA"])
def test_statement_triggers_fire_only_for_the_initial_copy_and_truncate(
    project: Project, replica: Replica, state: str
) -> None:
    """F15: ENABLE ALWAYS was said to be enough."""
    install(project, authors(*EVENTS))
    enable(project, state)
    assert "W204" not in warnings(project)
    replica.subscribe()
    assert replica.told() == ["INSERT"]
    assert replica.every_write() == ["TRUNCATE"]
    output = warnings(project)
    assert (
        "W204) In the database 'default', the channel blog.Authors sends nothing for rows that logical"
        " replication writes to blog_author, because its triggers fire by statement" in output
    )
    assert 'set level = "row" on the channel' in output


def test_row_triggers_fire_for_replication_if_enabled_for_it(
    project: Project, replica: Replica
) -> None:
    """F15"""
    install(project, authors(*EVENTS, level="row"))
    replica.subscribe()
    assert replica.told() == []
    assert replica.every_write() == []
    output = warnings(project)
    assert "writes to blog_author, because its triggers are not enabled for replication" in output
    _, _, statement = output.partition("execute: ")
    project.sql(statement.splitlines()[0])
    assert "W204" not in warnings(project)
    told = ["INSERT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]
    assert replica.every_write() == told
    project.run("pgpubsub", "install")
    assert replica.every_write() == told
    enable(project, "ENABLE REPLICA")
    assert "W204" not in warnings(project)
    assert replica.every_write() == told
    # As a restore with --disable-triggers leaves them.
    project.sql("ALTER TABLE blog_author DISABLE TRIGGER ALL")
    assert "W204" not in warnings(project)
    project.sql("ALTER TABLE blog_author ENABLE TRIGGER ALL")
    assert "W204" in warnings(project)


def test_changing_the_level_keeps_triggers_enabled_for_replication(
    project: Project, replica: Replica
) -> None:
    """F15: the remedy, carried out."""
    install(project, authors(*EVENTS))
    enable(project, "ENABLE ALWAYS")
    replica.subscribe()
    assert "W204" in warnings(project)
    install(project, authors(*EVENTS, level="row"))
    assert "W204" not in warnings(project)
    replica.told()
    assert replica.every_write() == ["INSERT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]


def test_triggers_of_partitioned_tables_fire_for_replication(
    project: Project, replica: Replica
) -> None:
    """F15's sibling: the statement enables the triggers of the partitions as well."""
    project.sql(
        "CREATE TABLE blog_author (id bigint PRIMARY KEY, name text) PARTITION BY HASH (id);"
        "CREATE TABLE blog_one PARTITION OF blog_author FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE blog_two PARTITION OF blog_author FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    others = model("Author", meta="managed = False")
    install(project, authors(*EVENTS, models=others, unmanaged=True))
    replica.subscribe()
    assert replica.every_write() == []
    output = warnings(project)
    assert "writes to blog_author, because its triggers are not enabled for replication" in output
    project.sql(output.partition("execute: ")[2].splitlines()[0])
    assert "W204" not in warnings(project)
    assert replica.every_write() == ["INSERT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]


def test_replicated_rows_wake_workers(project: Project, replica: Replica) -> None:
    """F15: a ring leaves the apply worker, too."""
    install(project, authors("insert", level="row"))
    enable(project, "ENABLE ALWAYS")
    replica.subscribe()
    with project.connect() as cursor:
        cursor.execute('LISTEN "blog.Authors"')

        def execute(text: str, parameters: Any) -> list[Any]:
            cursor.execute(text, parameters)
            return list(cursor.fetchall())

        announce_sleep(execute, ["blog.Authors"])
        replica.told("INSERT INTO blog_author VALUES (7, 'Bo')")

        def rung() -> bool:
            cursor.connection.poll()
            return bool(cursor.connection.notifies)

        eventually(rung)


def test_tables_without_subscription_are_not_reported(project: Project) -> None:
    """F15"""
    install(project, authors(*EVENTS))
    assert "W204" not in warnings(project)
