"""Apps that are renamed, relabelled or removed, or that hand over a model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import pytest

from tests.migrations.cases import assert_quiet, install, operations, tell
from tests.migrations.harness import Database, Project
from tests.migrations.versions import app, authors, channel, model, on, people, watcher

NewProject = Callable[..., Project]
LOOKING = (["check"], ["makemigrations"], ["makemigrations", "--check"], ["migrate"], ["listen"])
COMPARING = (["verify"], ["ls"], ["install"], ["sql"])


def rename(project: Project, old: str, new: str) -> None:
    """Rename an app as people do: the directory, and what the database has of it."""
    project.close()
    shutil.move(project.root / old, project.root / new)
    for file in (project.root / new).glob("*.py"):
        file.write_text(file.read_text("utf-8").replace(f"{old}.", f"{new}."), "utf-8")
    project.sql(f"UPDATE django_migrations SET app = '{new}' WHERE app = '{old}'")
    for (table,) in project.sql(
        f"SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname LIKE '{old}\\_%'"
    ):
        project.sql(f"ALTER TABLE {table} RENAME TO {new}{table.removeprefix(old)}")


def assert_told(project: Project, *said: str) -> None:
    """Every command says what to edit, by our check or by itself, and none crashes."""
    for command in LOOKING:
        output = project.run(*command, code=1)
        assert "Traceback" not in output, output
        assert "(pgpubsub_sql.E010)" in output
        for words in said:
            assert words in output, output
    for command in COMPARING:
        output = project.run("pgpubsub", "--skip-checks", *command, code=1)
        assert "Traceback" not in output, output
        for words in said:
            assert words in output, output


def edit(project: Project, label: str, old: str, new: str) -> None:
    """Replace words in the migrations of an app."""
    for name in project.migrations(label):
        source = project.source(label, name)
        project.write({f"{label}/migrations/{name}.py": source.replace(old, new)})


def test_renaming_the_app_of_the_model_names_each_place_to_edit(project: Project) -> None:
    """F20: each place is named, with what to write there; written, all is as it was."""
    project.configure(apps=["pgpubsub_sql", "people", "blog"])
    install(project, people(), watcher("blog", "people.Author"))
    project.configure(apps=["pgpubsub_sql", "persons", "blog"])
    rename(project, "people", "persons")
    project.write(watcher("blog", "persons.Author"))
    lines = project.source("blog", "0001_initial").splitlines()
    first, second = (n for n, line in enumerate(lines, start=1) if "'people" in line)
    file = "blog/migrations/0001_initial.py"
    assert_told(
        project,
        f"{file}:{first}: it depends on ('people', '0001_initial'), but no installed app has",
        "If it is 'persons' now, write ('persons', '0001_initial').",
        f"{file}:{second}: it has triggers on 'people.author', but no installed app has the label",
        "If it is 'persons' now, write 'persons.author'.",
    )

    edit(project, "blog", "'people", "'persons")
    assert "no issues" in project.run("check")
    assert_quiet(project)
    project.run("migrate")
    assert "agree" in project.run("pgpubsub", "verify")
    assert tell(project, "persons_author") == ["blog.Authors INSERT"]


def test_editing_only_the_dependency_names_the_other_places(
    project: Project, other: Database
) -> None:
    """F20: makemigrations wrote a dependency on ``__first__`` of an app that is not there."""
    project.configure(apps=["pgpubsub_sql", "people", "blog"])
    install(project, people(), watcher("blog", "people.Author"))
    extra = f'DATABASES["other"] = DATABASES["default"] | {{"NAME": {other.name!r}}}'
    project.configure(extra, apps=["pgpubsub_sql", "persons", "blog"])
    rename(project, "people", "persons")
    project.write(watcher("blog", "persons.Author"))
    edit(project, "blog", "('people', ", "('persons', ")
    assert "makemigrations blog" in project.run("pgpubsub", "verify", code=1)
    project.run("makemigrations")
    assert operations(project.latest()) == ["RemoveTrigger", "AddTrigger"]
    assert "__first__" not in project.latest()
    assert_quiet(project)
    for alias, database in {"default": project, "other": other}.items():
        project.run("migrate", "--database", alias)
        assert tell(database, "persons_author") == ["blog.Authors INSERT"]


def test_renaming_the_app_of_the_channel_names_dependents_to_edit(project: Project) -> None:
    """F20: those that wait for its migrations wait by the old label; ours have theirs in them."""
    project.configure(apps=["pgpubsub_sql", "people", "blog"])
    install(project, people(), watcher("blog", "people.Author"))
    project.write({**people(""), **watcher("blog", None)})
    project.run("makemigrations")
    assert "('blog', '0002_remove_authors_trigger')" in project.latest("people")
    project.run("migrate")
    project.configure(apps=["pgpubsub_sql", "people", "news"])
    rename(project, "blog", "news")
    assert_told(
        project,
        "people/migrations/0002_delete_author.py:",
        "it depends on ('blog', '0002_remove_authors_trigger')",
        "If it is 'news' now, write ('news', '0002_remove_authors_trigger').",
    )
    for label in ("people", "news"):
        edit(project, label, "('blog', ", "('news', ")
    assert_quiet(project)
    assert "agree" in project.run("pgpubsub", "verify")


def test_a_channel_moves_when_its_app_and_that_of_its_model_are_renamed(project: Project) -> None:
    """F20: with the app of the model; no label keeps Django from loading that, and
    makemigrations does the rest."""
    install(project, authors("insert"))
    project.configure(apps=["pgpubsub_sql", "news"])
    rename(project, "blog", "news")
    assert "no issues" in project.run("check")
    assert "makemigrations news" in project.run("pgpubsub", "verify", code=1)
    project.run("makemigrations")
    assert operations(project.latest("news")) == ["RemoveTrigger", "AddTrigger"]
    project.run("migrate")
    assert tell(project, "news_author") == ["news.Authors INSERT"]
    assert_quiet(project)
    project.run("migrate", "news", "zero")
    project.run("migrate")
    assert tell(project, "news_author") == ["news.Authors INSERT"]


LABEL = """
from django.apps import AppConfig


class Config(AppConfig):
    name = "people"
    label = "persons"
"""


def test_a_changed_app_label_names_each_place_to_edit(project: Project) -> None:
    """F20: by AppConfig.label, where the package keeps its name."""
    project.configure(apps=["pgpubsub_sql", "people", "blog"])
    install(project, people(), watcher("blog", "people.Author"))
    project.write({"people/apps.py": LABEL, **watcher("blog", "persons.Author")})
    project.sql("UPDATE django_migrations SET app = 'persons' WHERE app = 'people'")
    project.sql("ALTER TABLE people_author RENAME TO persons_author")
    assert_told(project, "('people', '0001_initial')", "write 'persons.author'.")
    edit(project, "blog", "'people", "'persons")
    assert_quiet(project)
    assert "agree" in project.run("pgpubsub", "verify")


def test_a_removed_app_needs_only_its_dependency_removed(project: Project) -> None:
    """F20: nothing is suggested; without the dependency, RemoveTrigger waits for nobody."""
    project.configure(apps=["pgpubsub_sql", "people", "blog"])
    install(project, people(), watcher("blog", "people.Author"))
    project.configure(apps=["pgpubsub_sql", "blog"])
    project.write(watcher("blog", None))
    assert_told(project, "no installed app has the label 'people'.", "If it is gone for good")
    assert "If it is '" not in project.run("check", code=1)

    source = project.latest().replace("('people', '0001_initial'),", "")
    project.write({"blog/migrations/0001_initial.py": source})
    assert "no issues" in project.run("check")
    project.run("makemigrations")
    assert operations(project.latest()) == ["RemoveTrigger"]
    assert "people" not in project.latest().partition("operations")[0]
    project.run("migrate")
    assert project.catalogue() == frozenset()
    assert_quiet(project)
    project.run("migrate", "blog", "zero")
    project.run("migrate")


MOVED = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = {dependencies}
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations={database}, state_operations={state}
        )
    ]
"""


def test_a_trigger_follows_a_model_to_another_app(project: Project) -> None:
    """F20: with its table where it is, and the trigger after it."""
    apps = ["pgpubsub_sql", "people", "persons", "blog"]
    project.configure(apps=apps)
    empty = {**app("persons"), "persons/migrations/__init__.py": ""}
    install(project, people(), empty, watcher("blog", "people.Author"))
    table = model("Author", meta='db_table = "people_author"')
    created = (
        "[migrations.CreateModel('Author', [('id', models.BigAutoField(primary_key=True)), "
        "('name', models.TextField())], options={'db_table': 'people_author'})]"
    )
    project.write(
        {
            **people(""),
            **app("persons", models=table),
            **watcher("blog", "persons.Author"),
            "persons/migrations/0001_initial.py": MOVED.format(
                dependencies="[('people', '0001_initial')]", database="[]", state=created
            ),
            "people/migrations/0002_gone.py": MOVED.format(
                dependencies="[('people', '0001_initial'), ('persons', '0001_initial')]",
                database="[]",
                state="[migrations.DeleteModel('Author')]",
            ),
        }
    )
    project.run("makemigrations", "blog")
    assert operations(project.latest()) == ["RemoveTrigger", "AddTrigger"]
    project.run("migrate")
    assert tell(project, "people_author") == ["blog.Authors INSERT"]
    assert "agree" in project.run("pgpubsub", "verify")
    project.run("migrate", "blog", "zero")
    project.run("migrate")
    assert tell(project, "people_author") == ["blog.Authors INSERT"]


def test_dependencies_that_do_not_concern_triggers_are_left_to_django(project: Project) -> None:
    """F20: a dependency that has nothing to do with triggers is no matter of ours."""
    install(project, authors("insert"))
    project.configure(apps=["pgpubsub_sql", "blog", "people"])
    source = MOVED.format(dependencies="[('nobody', '0001_initial')]", database="[]", state="[]")
    project.write({**people(), "people/migrations/0001_initial.py": source})
    assert "no issues" in project.run("check")
    output = project.run("pgpubsub", "verify", code=1)
    assert "Traceback" not in output
    assert "('nobody', '0001_initial')" in output


def test_a_migration_that_cannot_be_imported_is_left_to_django(project: Project) -> None:
    """F20: commands that need no migrations go on as before."""
    install(project, authors("insert"))
    project.write({"blog/migrations/0002_broken.py": "1 / 0"})
    assert "no issues" in project.run("check")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_every_line_with_a_stale_label_is_named(project: Project, quote: str) -> None:
    """F20: of several triggers on one model, whoever has formatted the file."""
    project.configure(apps=["pgpubsub_sql", "people", "blog"])
    both = channel(model="people.Author") + channel("More", model="people.Author")
    heard = on("insert") + on("insert", of="blog.channels.More")
    files = app("blog", channels=both, listeners=heard) | {"blog/migrations/__init__.py": ""}
    install(project, people(), files)
    edit(project, "blog", "'", quote)
    project.configure(apps=["pgpubsub_sql", "blog"])
    project.write(watcher("blog", None))
    found = re.search(
        r"0001_initial\.py:(\d+),(\d+): it has triggers", project.run("check", code=1)
    )
    assert found
    lines = project.latest().splitlines()
    assert all("people.author" in lines[int(number) - 1] for number in found.groups())
