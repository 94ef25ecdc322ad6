"""Channels on models of packages whose migrations do not depend on ours.

On a database that exists ours have run before a new release of the package brings its next
migration; on a fresh one that may run first. Both must end alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.migrations.cases import assert_quiet, install, operations, tell
from tests.migrations.harness import Files, Project
from tests.migrations.versions import AUTHOR, WRITER, model, on, people, watcher

NewProject = Callable[..., Project]

RELEASE = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("people", "0001_initial")]
    operations = [{operation}]
"""


@dataclass(frozen=True)
class Release:
    """What a new release of the package brings, and what becomes of the channel."""

    name: str
    operation: str
    models: str
    watched: str | None
    """The model that is watched from then on."""
    writes: list[str]
    """The operations of our next migration; none: no migration."""
    before: str = AUTHOR
    was: str = "people.Author"
    named: str | None = None
    """The field that the channel watches before."""
    named_then: str | None = None

    def __str__(self) -> str:
        return self.name


AGED = model("Author", "age = models.IntegerField(null=True)")
TAGS = model("Tag")
TAGGED = TAGS + model("Author", "tags = models.ManyToManyField(Tag)")
LABELLED = TAGS + model("Author", "labels = models.ManyToManyField(Tag)")

RELEASES = [
    Release(
        "the model is renamed",
        operation="migrations.RenameModel('Author', 'Writer')",
        models=WRITER,
        watched="people.Writer",
        writes=[],
    ),
    Release(
        "the model is deleted",
        operation="migrations.DeleteModel('Author')",
        models="",
        watched=None,
        writes=["RemoveTrigger"],
    ),
    Release(
        "a many-to-many field is renamed",
        operation="migrations.RenameField('author', 'tags', 'labels')",
        before=TAGGED,
        was="people.author_tags",
        models=LABELLED,
        watched="people.author_labels",
        writes=["RemoveTrigger", "AddTrigger"],
    ),
    Release(
        "a field that is named is removed",
        operation="migrations.RemoveField('author', 'age')",
        before=AGED,
        named="age",
        models=AUTHOR,
        watched="people.Author",
        writes=["AlterTrigger"],
    ),
    Release(
        "a field that is named is renamed",
        operation="migrations.RenameField('author', 'age', 'years')",
        before=AGED,
        named="age",
        models=AGED.replace("age", "years"),
        named_then="years",
        watched="people.Author",
        writes=["AlterTrigger"],
    ),
]


@pytest.mark.parametrize("migrated_first", [False, True], ids=["with ours", "before ours"])
@pytest.mark.parametrize("label", ["aardvark", "zebra"])
@pytest.mark.parametrize("release", RELEASES, ids=str)
def test_triggers_survive_a_new_release_of_the_models_package(
    new_project: NewProject, release: Release, label: str, migrated_first: bool
) -> None:
    """T1, P24: the trigger follows its model, or goes with it, wherever we come in the plan."""
    project = new_project(apps=["pgpubsub_sql", "people", label])
    install(project, people(release.before), watcher(label, release.was, **watch(release.named)))
    first = project.catalogue()

    channel = watcher(label, release.watched, **watch(release.named_then))
    project.write(people(release.models) | channel)
    source = RELEASE.format(operation=release.operation)
    project.write({"people/migrations/0002_release.py": source})
    if migrated_first:
        project.run("migrate")
        assert remedies(project) == {f"makemigrations {label}" for _ in release.writes}
    project.run("makemigrations")
    to_run = [*release.writes, *([] if migrated_first else ["the release"])]
    assert remedies(project) == {"migrate" for _ in to_run}
    new = project.migrations(label)[1:]
    assert [operations(project.source(label, name)) for name in new] == [
        *([release.writes] if release.writes else [])
    ]
    project.run("migrate")
    assert_quiet(project)
    second = project.catalogue()
    assert bool(second) == bool(release.watched)
    assert {one.function for one in second} == {one.function for one in first if release.watched}

    fresh = new_project(apps=["pgpubsub_sql", "people", label])
    fresh.write(copy(project))
    fresh.run("migrate")
    assert fresh.catalogue() == second
    assert_quiet(fresh)
    for one in (fresh, project):
        one.run("migrate", label, "zero")
        assert one.catalogue() == frozenset()
        one.run("migrate", "people", "zero")
        one.run("migrate")
        assert one.catalogue() == second


def remedies(project: Project) -> set[str]:
    """Return what ``verify`` wants to be run, but for triggers that do not fit yet."""
    output = project.run("pgpubsub", "verify", "--json", code=None)
    problems = json.JSONDecoder().raw_decode(output)[0]
    wanted = [one["remedy"] for one in problems if "every row is sent whole" not in one["text"]]
    return {remedy.rpartition("manage.py ")[2] for remedy in wanted}


def watch(name: str | None) -> dict[str, tuple[str]]:
    return {"watch": (name,)} if name else {}


def copy(project: Project) -> Files:
    """Return all that the project has, but for its settings."""
    files = {
        str(file.relative_to(project.root)): file.read_text() for file in project.root.rglob("*.py")
    }
    return {path: text for path, text in files.items() if not path.startswith("project/")}


@pytest.mark.parametrize("label", ["aardvark", "zebra"])
def test_run_before_is_respected(new_project: NewProject, label: str) -> None:
    """A migration of ours that says ``run_before`` is read and run where it belongs."""
    project = new_project(apps=["pgpubsub_sql", "people", label])
    project.write(people(AUTHOR) | watcher(label, "people.Author"))
    project.run("makemigrations")
    ours = project.source(label, "0001_initial")
    before = (
        'class Migration(migrations.Migration):\n    run_before = [("people", "0002_release")]\n'
    )
    project.write(
        {
            f"{label}/migrations/0001_initial.py": ours.replace(
                "class Migration(migrations.Migration):\n", before
            ),
            "people/migrations/0002_release.py": RELEASE.format(
                operation="migrations.RenameModel('Author', 'Writer')"
            ),
            **people(WRITER),
            **watcher(label, "people.Writer"),
        }
    )
    assert_quiet(project)
    assert project.plan()[-2:] == [(label, "0001_initial"), ("people", "0002_release")]
    project.run("migrate")
    assert tell(project, "people_writer") == [f"{label}.Authors INSERT"]
    install(project, watcher(label, "people.Writer", "insert", "update"))
    assert operations(project.latest(label)) == ["AlterTrigger"]
    assert tell(project, "people_writer")[-1] == f"{label}.Authors UPDATE"
    project.run("migrate", "people", "zero")
    assert project.catalogue() == frozenset()


def test_a_missing_dependency_is_an_error(project: Project) -> None:
    """P24: a trigger that must stay is not left out in silence."""
    project.configure(apps=["pgpubsub_sql", "aardvark", "people"])
    project.write(people(AUTHOR) | watcher("aardvark", "people.Author"))
    project.run("makemigrations")
    source = project.source("aardvark", "0001_initial")
    assert "('people', '0001_initial')" in source
    source = source.replace("('people', '0001_initial'),", "")
    project.write({"aardvark/migrations/0001_initial.py": source})
    output = project.run("migrate", code=1)
    assert "NotReady: The channel 'aardvark.Authors' watches the model 'people.author'" in output
    assert "dependencies" in output


REUSABLE = """
import pgpubsub_sql
from django.conf import settings


class Users(pgpubsub_sql.TriggerChannel):
    model = settings.AUTH_USER_MODEL
    lock_notifications = True
"""
USER = "from django.contrib.auth.models import AbstractUser\n\nclass User(AbstractUser): ...\n"


def test_a_package_can_watch_the_swappable_user_model(new_project: NewProject) -> None:
    """P24: its migration follows AUTH_USER_MODEL, and no project is asked for another."""
    apps = [*("django.contrib.auth", "django.contrib.contenttypes"), "pgpubsub_sql", "package"]
    package = {
        **watcher("package", None),
        "package/channels.py": REUSABLE,
        "package/listeners.py": "import pgpubsub_sql\n\n"
        + on("insert", of="package.channels.Users"),
    }
    author = new_project(apps=apps)
    author.write(package)
    author.run("makemigrations")

    project = new_project(apps=apps)
    project.configure('AUTH_USER_MODEL = "people.User"', apps=[*apps, "people"])
    project.write(people("") | copy(author))
    project.write({"people/models.py": USER})
    project.run("makemigrations", "people")
    assert_quiet(project)
    project.run("migrate")
    assert project.catalogue().tables == {"people_user"}
    project.run("createsuperuser", "--noinput", "--username=ann", "--email=ann@example.org")
    assert project.stored() == [("package.Users", "INSERT")]
    project.run("migrate", "package", "zero")
    assert project.catalogue() == frozenset()
