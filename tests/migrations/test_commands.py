"""The commands of Django that read, rewrite or skip migrations."""

from __future__ import annotations

import re
from collections.abc import Callable


import pytest

from tests.migrations.cases import assert_quiet, install, operations, tell, written
from tests.migrations.harness import Database, Project
from tests.migrations.versions import WRITER, authors, model, people, watcher

NewProject = Callable[..., Project]


AGED = model("Author", "age = models.IntegerField(null=True)")


def test_squashed_migrations_install_the_same(new_project: NewProject) -> None:
    """T9: squashing keeps what counts and nothing else, also when the replaced ones are gone."""
    project = new_project()
    install(project, authors("insert", models=WRITER, model="blog.Writer"))
    install(project, authors("insert", "update"), answers="y\n")
    install(project, authors("insert", "update", models=AGED))
    install(project, authors("delete", models=AGED))
    replaced = project.migrations()
    assert len(replaced) == 4
    project.run("squashmigrations", "--noinput", "blog", "0004")
    project.run("migrate")
    assert_quiet(project)

    squashed = "0001_squashed_" + replaced[-1]
    assert operations(project.source("blog", squashed)) == ["CreateModel", "AddTrigger"]
    twin = new_project()
    twin.write(sources(project))
    twin.run("migrate")
    assert_quiet(twin)
    assert twin.catalogue() == project.catalogue()

    for name in replaced:
        (project.root / f"blog/migrations/{name}.py").unlink()
    source = re.sub(r"    replaces = \[.*?\]\n", "", project.source("blog", squashed), flags=re.S)
    project.write({f"blog/migrations/{squashed}.py": source})
    assert "replaces" not in source
    assert "No migrations to apply" in project.run("migrate")
    assert_quiet(project)
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
    project.run("migrate")
    assert project.catalogue() == twin.catalogue()


def sources(project: Project) -> dict[str, str]:
    """Return the files of the project's app."""
    files = (project.root / "blog").rglob("*.py")
    return {str(file.relative_to(project.root)): file.read_text() for file in files}


TO_AND_FRO = """
from django.db import migrations

from pgpubsub_sql.migrations_ops.operations import AddTrigger, AlterTrigger, RemoveTrigger

AUTHORS = {"channel": "blog.Authors", "model": "blog.author", "after": ["insert"], "durable": True}


class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial"), ("pgpubsub_sql", "0001_initial")]
    operations = [
        AddTrigger(AUTHORS),
        AlterTrigger(AUTHORS, AUTHORS | {"after": ["delete"]}),
        RemoveTrigger(AUTHORS | {"after": ["delete"]}),
        AddTrigger(AUTHORS),
    ]
"""


def test_optimizemigration_merges_trigger_operations(project: Project) -> None:
    """T9, T14: what was written by hand, in few words, is made fewer."""
    project.write(authors())
    project.run("makemigrations")
    project.write({**authors("insert"), "blog/migrations/0002_to_and_fro.py": TO_AND_FRO})
    assert_quiet(project)
    project.run("optimizemigration", "blog", "0002")
    assert operations(project.latest()) == ["AddTrigger"]
    project.run("migrate")
    assert tell(project) == ["blog.Authors INSERT"]
    assert_quiet(project)


def test_makemigrations_update_merges_trigger_operations(project: Project) -> None:
    """T9: ``makemigrations --update`` finds one operation where there were two."""
    project.write(authors("insert"))
    project.run("makemigrations")
    project.write(authors("insert", "update"))
    project.run("makemigrations", "--update", "--noinput", "blog")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    assert "'after': ('insert', 'update')" in project.latest()
    assert_quiet(project)


def test_sqlmigrate_shows_exactly_what_runs(project: Project) -> None:
    """Another database that is given the output ends up with the same catalogue, step by step."""
    versions = [authors("insert", "update"), authors("delete", lock_notifications=False), authors()]
    twin = Database()
    catalogues = [project.catalogue()]
    for number, version in enumerate(versions, start=1):
        install(project, version)
        catalogues.append(project.catalogue())
        if number == 1:
            twin.sql(project.run("sqlmigrate", "pgpubsub_sql", "0001"))
        twin.sql(project.run("sqlmigrate", "blog", f"000{number}"))
        assert twin.catalogue() == catalogues[number]
        if number < len(versions):
            tell(twin)
    for number in (3, 2, 1):
        twin.sql(project.run("sqlmigrate", "--backwards", "blog", f"000{number}"))
        assert twin.catalogue() == catalogues[number - 1]
    twin.sql(project.run("sqlmigrate", "--backwards", "pgpubsub_sql", "0001"))
    assert twin.sql("SELECT proname FROM pg_proc WHERE proname LIKE 'pgpubsub%'") == []


# --- What makemigrations is asked for -------------------------------------------------------------


@pytest.mark.parametrize("name", ["ours", "yours"], ids=["before theirs", "after theirs"])
def test_merged_branches_install_what_is_declared(project: Project, name: str) -> None:
    """Two branches change one channel: once they are merged, what is declared is installed."""
    install(project, authors("insert"))
    install(project, authors("insert", "update"))
    theirs = project.root / f"blog/migrations/{project.migrations()[-1]}.py"
    source = theirs.read_text()
    project.run("migrate", "blog", "0001")
    theirs.unlink()
    project.write(authors("insert", "delete", models=AGED))
    project.run("makemigrations", "--name", name)
    project.run("migrate")
    project.write({"blog/migrations/0002_theirs.py": source})
    assert "Conflicting migrations" in project.run("makemigrations", code=1)
    output = project.run("makemigrations", "--merge", "--noinput")
    assert "Alter trigger of channel blog.Authors on blog.author" in output

    install(project, authors("insert", "delete", models=AGED))
    assert_quiet(project)
    assert project.catalogue().timed_events == {"after_insert", "after_delete"}
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors DELETE"]
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
    project.run("migrate")
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors DELETE"]


def test_makemigrations_empty_adds_no_trigger(project: Project) -> None:
    """It stands between two of ours, and neither notices."""
    install(project, authors("insert"))
    project.run("makemigrations", "--empty", "blog")
    assert operations(project.latest()) == []
    assert_quiet(project)
    install(project, authors("insert", "update"))
    assert operations(project.latest()) == ["AlterTrigger"]
    assert_quiet(project)


@pytest.mark.parametrize("label", ["aardvark", "zebra"])
def test_makemigrations_for_one_app_writes_only_what_it_needs(
    new_project: NewProject, label: str
) -> None:
    """T2: what the named app's migrations need is written with them, and nothing else."""
    project = new_project(apps=["pgpubsub_sql", "people", label, "blog"])
    install(project, people(), watcher(label, "people.Author"), authors("insert"))
    project.write(people("") | watcher(label, None) | authors("insert", "update"))
    project.run("makemigrations", "people")
    assert written(project, label, project.migrations(label)[-1]) == f"{label}: RemoveTrigger"
    assert operations(project.latest("people")) == ["DeleteModel"]
    assert project.migrations("blog") == ["0001_initial"]
    project.run("migrate")
    assert project.catalogue().tables == {"blog_author"}

    project.run("makemigrations", "blog")
    assert operations(project.latest("blog")) == ["AlterTrigger"]
    assert_quiet(project)


# --- What migrate is asked for --------------------------------------------------------------------


def test_dry_runs_describe_the_operations(project: Project) -> None:
    """T9: ``makemigrations --check`` and ``migrate --plan`` change nothing."""
    install(project, authors("insert"))
    before = project.catalogue()
    project.write(authors("insert", models=AGED, lock_notifications=False))
    checked = project.run("makemigrations", "--check", code=1)
    assert "~ Alter trigger of channel blog.Authors on blog.author" in checked
    assert "~ Alter trigger" in project.run("makemigrations", "--dry-run")
    assert project.migrations() == ["0001_initial"]
    project.run("makemigrations")
    plan = project.run("migrate", "--plan")
    assert "Alter trigger of channel blog.Authors on blog.author" in plan
    assert project.catalogue() == before
    project.run("migrate")
    backwards = project.run("migrate", "--plan", "blog", "zero")
    assert "Undo Add trigger of channel blog.Authors to blog.author" in backwards
    assert project.catalogue() != before


def test_the_next_change_repairs_what_was_faked(project: Project) -> None:
    """What ``--fake`` has left out or left behind does not make a later migration fail."""
    project.write(authors())
    project.run("makemigrations")
    project.run("migrate")
    project.write(authors("insert"))
    project.run("makemigrations")
    project.run("migrate", "--fake")
    assert project.catalogue() == frozenset()
    assert tell(project) == []
    assert_quiet(project)

    install(project, authors("insert", "update"))
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]
    project.run("migrate", "--fake", "blog", "0001")
    project.run("migrate")
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
