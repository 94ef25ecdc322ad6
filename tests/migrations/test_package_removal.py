"""Removal of the package from a project that keeps its tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pgpubsub_sql.migrations_ops.package_removal import without_package

from tests.migrations.cases import assert_quiet, install, tell
from tests.migrations.harness import Database, Project
from tests.migrations.versions import AUTHOR, authors, blog, people, watcher

NewProject = Callable[..., Project]
APPS = ["people", "blog", "shop"]
OURS = """
SELECT relname::text FROM pg_class WHERE starts_with(relname, 'pgpubsub')
UNION ALL SELECT proname::text FROM pg_proc WHERE starts_with(proname, 'pgpubsub')
"""
GONE = {"pgpubsub_sql.py": 'raise ImportError("It is not installed any more.")'}


def on_both(other: Database) -> str:
    """Return settings with a second database."""
    return f'DATABASES["other"] = DATABASES["default"] | {{"NAME": {other.name!r}}}'


def in_use(project: Project, other: Database) -> None:
    """Bring a project to two databases, with triggers in migrations that make tables, too."""
    project.configure(on_both(other), apps=["pgpubsub_sql", *APPS])
    install(project, people(), authors("insert"), watcher("shop", "people.Author"))
    install(project, authors("insert", "update"))
    project.run("migrate", "--database", "other")
    for database in (project, other):
        database.sql("INSERT INTO blog_author (name) VALUES ('Ann')")


def names(database: Database) -> list[str]:
    return [name for (name,) in database.sql("SELECT name FROM blog_author ORDER BY id")]


def test_a_project_that_removes_the_package_keeps_its_tables(
    project: Project, other: Database
) -> None:
    """F23: "migrate pgpubsub_sql zero" dropped the project's own tables; now it never does."""
    in_use(project, other)
    output = project.run("migrate", "pgpubsub_sql", "zero", code=1)
    assert re.search(r"CommandError.*blog\.0001_initial.*manage\.py pgpubsub leave", output)
    assert names(project) == ["Ann"]
    output = project.run("pgpubsub", "leave", "--noinput", code=1)
    assert "still declared: blog.channels.Authors, shop.channels.Authors." in output

    project.write({**blog(models=AUTHOR), **watcher("shop", None)})
    output = project.run("pgpubsub", "leave", "--noinput", code=1)
    assert "still install the triggers of blog.Authors, shop.Authors. Run: python man" in output
    project.run("makemigrations")
    output = project.run("pgpubsub", "leave", "--noinput", code=1)
    assert "Run: python manage.py migrate --database default" in output
    project.run("migrate")
    fresh = Database()
    project.configure(on_both(fresh), apps=["pgpubsub_sql", *APPS])
    project.run("migrate", "--database", "other")
    assert tell(fresh) == []
    assert fresh.catalogue() == frozenset()
    fresh.drop()

    old = project.plan()
    assert "Change 5 migrations?" in project.run("pgpubsub", "leave", code=1)
    output = project.run("pgpubsub", "leave", answers="yes\n")
    assert "blog/migrations/0001_initial.py" in output
    assert "python manage.py migrate pgpubsub_sql zero" in output
    project.write({})  # so that the next command reads the files anew
    for file in project.root.glob("*/migrations/*.py"):
        assert "pgpubsub" not in file.read_text(encoding="utf-8")
    assert "No migration needs this package." in project.run("pgpubsub", "leave")
    assert [*filter(lambda node: node[0] in APPS, project.plan())] == [
        node for node in old if node[0] in APPS
    ]
    assert_quiet(project)
    project.run("migrate", "pgpubsub_sql", "zero")
    assert project.sql(OURS) == []
    assert names(project) == ["Ann"]
    gone(project)


def gone(project: Project) -> None:
    """Assert that the project works without the package, on databases old and new."""
    for database in (project, Database()):
        project.configure(f'DATABASES["default"]["NAME"] = {database.name!r}', apps=APPS)
        project.write(GONE)
        output = project.start("migrate")
        assert ("No migrations to apply." in output) is (database is project)
        assert database.has("blog_author")
        assert "No changes detected" in project.start("makemigrations", "--check")
        project.start("migrate", "blog", "zero")
        project.start("migrate")
        if database is not project:
            database.drop()


def test_our_migrations_are_not_unapplied_while_triggers_are_installed(
    project: Project, other: Database
) -> None:
    """F23: without the functions and tables of ours every write would fail there."""
    in_use(project, other)
    project.write({**blog(models=AUTHOR), **watcher("shop", None)})
    project.run("makemigrations")
    project.run("migrate")
    project.run("pgpubsub", "leave", "--noinput")
    project.start("migrate", "--database", "other")  # what it leaves behind is no surprise here
    output = project.start_all("migrate", "pgpubsub_sql", "zero", "--database", "other", code=1)
    assert "'other' would make every write fail" in output
    other.sql("INSERT INTO blog_author (name) VALUES ('Bea')")
    statements = re.findall(r"DROP FUNCTION [^;]+;", output)
    assert len(statements) == 2
    for statement in statements:
        other.sql(statement)
    project.start("migrate", "--database", "other", "pgpubsub_sql", "zero")
    assert other.sql(OURS) == []
    assert names(other) == ["Ann", "Bea"]


def test_dependent_migrations_can_be_unapplied_first(project: Project, other: Database) -> None:
    """F23: whoever says so wants it; the order is theirs."""
    in_use(project, other)
    for label in APPS:
        project.run("migrate", label, "zero")
    project.run("migrate", "pgpubsub_sql", "zero")
    assert project.sql(OURS) == []
    project.run("migrate")
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]


def test_lines_written_by_hand_are_named_and_kept(project: Project, other: Database) -> None:
    """F23: such a line is left as it is, and the rest of its file is done."""
    in_use(project, other)
    project.write({**blog(models=AUTHOR), **watcher("shop", None)})
    project.run("makemigrations")
    project.run("migrate")
    first = project.root / "blog" / "migrations" / "0001_initial.py"
    first.write_text(first.read_text("utf-8") + '\nNOTE = "pgpubsub_sql"\n', "utf-8")
    project.write({})
    output = project.run("pgpubsub", "leave", "--noinput", code=1)
    number = first.read_text("utf-8").count("\n")
    assert f"from them by hand: blog/migrations/0001_initial.py:{number}" in output
    assert first.read_text("utf-8").count("pgpubsub") == 1


# --- The source of a migration ---------------------------------------------------------------------

BLACK = """
import other, more
import pgpubsub_sql.migrations_ops.operations  # ours
from django.db import migrations, models
from pgpubsub_sql.migrations_ops.operations import (
    AddTrigger,
    RemoveTrigger as Gone,
)


class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial"), ("pgpubsub_sql", "0001_initial")]
    run_before = [("pgpubsub_sql", "0001_initial")]

    operations = [
        migrations.RunSQL("SELECT 'é', 'pgpubsub'", state_operations=[AddTrigger({"a": (1,)})]),
        AddTrigger(
            trigger={"channel": "é"},
        ),  # of long ago
        migrations.RunPython(migrations.RunPython.noop), Gone({}), AddTrigger({}),  # mixed
        pgpubsub_sql.migrations_ops.operations.AlterTrigger(old={}, new={})
    ]
"""
PLAIN = """
import other, more
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial"), ]
    run_before = []

    operations = [
        migrations.RunSQL("SELECT 'é', 'pgpubsub'", state_operations=[]),
        migrations.RunPython(migrations.RunPython.noop), # mixed
    ]
"""
KEPT = [
    "import pgpubsub_sql, other\noperations = [pgpubsub_sql.AddTrigger({})]\n",
    "from pgpubsub_sql import AddTrigger\noperations = [(AddTrigger({}))]\n",
    "from pgpubsub_sql import SPEC\noperations = [Other(SPEC)]\n",
]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_our_code_is_cut_from_a_migration(newline: str) -> None:
    """F23: in whatever way a file is formatted."""
    edited = without_package(BLACK.replace("\n", newline).encode())
    assert edited.decode() == PLAIN.replace("\n", newline)


@pytest.mark.parametrize("source", KEPT)
def test_code_that_is_not_understood_stays(source: str) -> None:
    edited = without_package(source.encode()).decode()
    compile(edited, "migration", "exec")
    assert "pgpubsub_sql" in edited or "AddTrigger" not in edited


def test_migrations_formatted_with_ruff_are_edited() -> None:
    """F23: files that people have formatted with ruff."""
    file = Path(__file__).parents[1] / "app" / "migrations" / "0001_initial.py"
    edited = without_package(file.read_bytes()).decode()
    assert "pgpubsub_sql" not in edited
    assert "CreateModel" in edited
