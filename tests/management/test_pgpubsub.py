"""``manage.py pgpubsub``: what its subcommands have in common."""

from __future__ import annotations

import pytest

from tests.management.projects import FUNCTION, leave_over, rows
from tests.migrations.harness import Database, Project

WORDS = ("ls", "verify", "sql", "install", "uninstall", "enable", "disable", "prune")


def test_a_misspelled_channel_is_suggested(project: Project) -> None:
    output = project.run("pgpubsub", "ls", "blog.Author", code=1)
    assert "No channel is called 'blog.Author'. Did you mean 'blog.Authors'?" in output


@pytest.mark.parametrize("word", WORDS)
def test_every_subcommand_suggests_a_channel(project: Project, word: str) -> None:
    output = project.run("pgpubsub", word, "blog.Author", code=1)
    assert "No channel is called 'blog.Author'. Did you mean 'blog.Authors'?" in output
    assert "No channel is called" in project.run("pgpubsub", word, "something", code=1)


def test_every_subcommand_prints_json(project: Project) -> None:
    for word, *argv in (
        ("disable", "--all", "--noinput"),
        ("enable",),
        ("uninstall", "--all", "--noinput"),
        ("install",),
    ):
        (row,) = rows(project, word, *argv)
        assert row["channel"] == "blog.Authors"
        assert row["done"] == f"{word}d".replace("lld", "lled")
    assert rows(project, "install") == rows(project, "prune") == rows(project, "verify") == []
    for word in ("ls", "sql"):
        assert [row["channel"] for row in rows(project, word)] == ["blog.Authors", "blog.Reads"]


def test_every_subcommand_acts_on_its_database_only(project: Project, other: Database) -> None:
    """And remedies name it."""
    database = ("--database", "other")
    project.configure(
        f'DATABASES["other"] = DATABASES["default"] | {{"NAME": {other.name!r}}}',
        apps=["pgpubsub_sql", "blog"],
    )
    project.run("migrate", *database)
    before = project.catalogue()
    assert other.catalogue() == before

    project.run("pgpubsub", "disable", "--all", "--noinput", *database)
    (problem,) = rows(project, "verify", *database, code=1)
    assert problem["remedy"].endswith("pgpubsub enable blog.Authors --database other")
    assert [row["state"] for row in rows(project, "ls", *database)] == ["disabled", None]
    project.run(*problem["remedy"].split("manage.py ")[1].split())
    project.run("pgpubsub", "uninstall", "--all", "--noinput", *database)
    assert other.catalogue() == frozenset()
    output = project.run("check", *database)
    assert (
        "In the database 'other', the channel blog.Authors has no trigger in the database" in output
    )
    assert "HINT: Run: python manage.py pgpubsub install blog.Authors --database other" in output
    (shown,) = rows(project, "sql", "blog.Authors", *database)
    for statement in shown["sql"]:
        other.sql(statement)
    assert other.catalogue() == before
    other.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    project.run("pgpubsub", "install", *database)
    assert other.catalogue() == before

    leave_over(other)
    assert rows(project, "verify") == []
    (problem,) = rows(project, "verify", *database, code=1)
    project.run(*problem["remedy"].split("manage.py ")[1].split(), "--noinput")
    assert "agree" in project.run("pgpubsub", "verify", *database)
    assert project.catalogue() == before


def test_a_database_that_is_not_migrated_is_an_error(project: Project) -> None:
    project.run("migrate", "blog", "zero", "-v0")
    project.run("migrate", "pgpubsub_sql", "zero", "-v0")
    output = project.run("pgpubsub", "verify", code=1)
    assert "Run: python manage.py migrate --database default" in output


def test_a_database_that_is_not_postgresql_is_an_error(project: Project) -> None:
    project.configure(
        """
        DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        """,
        apps=["pgpubsub_sql", "blog"],
    )
    output = project.run("pgpubsub", "verify", "--database", "lite", code=1)
    assert "The database 'lite' is SQLite, but channels need PostgreSQL" in output


def test_help_lists_and_explains_subcommands(project: Project) -> None:
    output = project.run("pgpubsub", "--help")
    for word in ("ls", "verify", "sql", "install", "uninstall", "enable", "disable", "prune"):
        assert f"    {word} " in output
    assert "Drop functions and triggers that this project installed" in project.run(
        "pgpubsub", "prune", "--help"
    )


def test_django_options_may_follow_the_subcommand(project: Project) -> None:
    project.run("pgpubsub", "verify", "--no-color", "--settings", "project.settings")
