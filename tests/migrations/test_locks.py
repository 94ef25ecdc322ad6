"""What migrate waits for, and what waits for migrate, while a table is in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.migrations.cases import assert_quiet, install, tell, written
from tests.migrations.harness import Project
from tests.migrations.versions import authors, model

READING = "SELECT * FROM blog_author"
WRITING = "INSERT INTO blog_author (name) VALUES ('Ann')"


@contextlib.contextmanager
def in_use(project: Project, statement: str) -> Iterator[None]:
    """Keep a transaction open that has done *statement*."""
    with project.connect() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement)
        yield
        cursor.execute("ROLLBACK")


def migrate(project: Project, *argv: str, code: int = 0) -> str:
    """Run migrate, which fails where it would have to wait."""
    settings = (project.root / "project/settings.py").read_text()
    timeout = 'DATABASES["default"]["OPTIONS"] = {"options": "-c lock_timeout=200ms"}\n'
    project.write({"project/settings.py": settings + timeout})
    output = project.run("migrate", *argv, code=code)
    project.write({"project/settings.py": settings})
    return output


@pytest.mark.parametrize("use", [READING, WRITING], ids=["reader", "writer"])
def test_changing_the_function_waits_for_no_lock(project: Project, use: str) -> None:
    """T13: neither does a new version of the template, for which there is one AlterTrigger."""
    install(project, authors("insert", "update"))
    outdate(project)
    project.run("makemigrations")
    assert written(project, *project.plan()[-1]) == "blog: AlterTrigger"
    assert_quiet(project)
    project.write(authors("insert", "update", lock_notifications=False))
    project.run("makemigrations")
    with in_use(project, use):
        migrate(project)
        assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]
        migrate(project, "blog", "0001")
        assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]


def outdate(project: Project) -> None:
    """Let the migration be of an older version of the template."""
    source = project.source("blog", "0001_initial")
    assert source.count("'version': 1") == 1
    project.write(
        {"blog/migrations/0001_initial.py": source.replace("'version': 1", "'version': 0")}
    )


def test_adding_an_event_waits_for_writers_only(project: Project) -> None:
    """T13: CREATE OR REPLACE TRIGGER lets readers read, as the documentation says."""
    install(project, authors("insert"))
    project.write(authors("insert", "update"))
    project.run("makemigrations")
    with in_use(project, WRITING):
        assert "lock timeout" in migrate(project, code=1)
    with in_use(project, READING):
        migrate(project)
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]


def test_removing_an_event_waits_for_readers_too(project: Project) -> None:
    """What PostgreSQL asks for DROP TRIGGER: a lock_timeout keeps everybody else from waiting."""
    install(project, authors("insert", "update"))
    project.write(authors("insert"))
    project.run("makemigrations")
    with in_use(project, READING):
        assert "lock timeout" in migrate(project, code=1)
        assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]
    migrate(project)
    assert tell(project) == ["blog.Authors INSERT"]


AGE = "age = models.{}(null=True)"


def test_a_disabled_trigger_stays_disabled(project: Project) -> None:
    """T3: whatever is migrated, the table's columns or the channel's options."""
    install(
        project, authors("insert", "update", models=model("Author", AGE.format("IntegerField")))
    )
    project.sql("ALTER TABLE blog_author DISABLE TRIGGER pgpubsub_blog__authors_after_insert")
    updates = ["blog.Authors UPDATE"]
    assert tell(project) == updates
    aged = model("Author", AGE.format("TextField"))
    for options in ({}, {"lock_notifications": False}, {"level": "row"}, {}):
        install(project, authors("insert", "update", models=aged, **options))
        assert tell(project) == updates
    project.run("migrate", "blog", "0001")
    assert tell(project) == updates
