"""Other packages that extend the autodetector."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.migrations.cases import assert_quiet, install, operations, tell
from tests.migrations.harness import Project
from tests.migrations.versions import (
    authors,
)

NewProject = Callable[..., Project]


PACKAGES = ("", "management/", "management/commands/")
COMPOSES = """
from django.apps import AppConfig
from django.core.management.commands import makemigrations, migrate


class Mixin:
    def _detect_changes(self, *args, **kwargs):
        print("the other autodetector was here")
        return super()._detect_changes(*args, **kwargs)


class OtherConfig(AppConfig):
    name = "other"

    def ready(self):
        composed = type("MigrationAutodetector", (Mixin, makemigrations.Command.autodetector), {})
        for module in (makemigrations, migrate):
            module.MigrationAutodetector = composed
            module.Command.autodetector = composed
"""


@pytest.mark.parametrize(
    "apps", [["pgpubsub_sql", "other"], ["other", "pgpubsub_sql"]], ids=["before", "after"]
)
def test_a_package_that_wraps_the_autodetector_works_with_ours(
    new_project: NewProject, apps: list[str]
) -> None:
    """T11: both do their work, whichever comes first in INSTALLED_APPS."""
    project = new_project(apps=[*apps, "blog"])
    project.write({"other/__init__.py": "", "other/apps.py": COMPOSES})
    project.write(authors("insert"))
    assert "the other autodetector was here" in project.run("makemigrations")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    assert "no issues" in project.run("check")
    project.run("migrate")
    assert tell(project) == ["blog.Authors INSERT"]
    assert_quiet(project)


OF_ITS_OWN = """
from django.core.management.commands import makemigrations, migrate
from django.db.migrations.autodetector import MigrationAutodetector


class Dependency:
    # As django-syzygy has, of a kind that Django's class does not know.

    app_label, model_name, field_name = "blog", "author", None

    def __init__(self, operation):
        self.operation = operation


class Autodetector(MigrationAutodetector):
    def add_operation(self, app_label, operation, dependencies=None, beginning=False):
        super().add_operation(app_label, operation, dependencies, beginning)
        operation._auto_deps = [*operation._auto_deps, Dependency(None)]

    def check_dependency(self, operation, dependency):
        if isinstance(dependency, Dependency):
            return dependency.operation is operation
        return super().check_dependency(operation, dependency)

    def _resolve_dependency(self, dependency):
        if isinstance(dependency, Dependency):
            return dependency, False
        return super()._resolve_dependency(dependency)

    def changes(self, *args, **kwargs):
        print("the other autodetector was here")
        return super().changes(*args, **kwargs)
"""
IN_HANDLE = """

class Command(makemigrations.Command):
    def handle(self, *args, **options):
        self.autodetector = Autodetector
        super().handle(*args, **options)
"""
ON_ITS_CLASS = """

class Command(makemigrations.Command):
    autodetector = Autodetector
"""
ON_DJANGOS_CLASS = """

class Command(makemigrations.Command):
    def handle(self, *args, **options):
        makemigrations.MigrationAutodetector = Autodetector
        makemigrations.Command.autodetector = migrate.Command.autodetector = Autodetector
        super().handle(*args, **options)
"""
A_MIXIN = """

class Command(makemigrations.Command):
    def handle(self, *args, **options):
        class Styled(Autodetector, self.autodetector):
            pass

        self.autodetector = Styled
        super().handle(*args, **options)
"""
SAME = "other.management.commands.makemigrations"
COMMANDS = {
    "handle": IN_HANDLE,
    "own": ON_ITS_CLASS,
    "django": ON_DJANGOS_CLASS,
    "mixin": A_MIXIN,
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_that_chooses_its_own_autodetector_still_writes_triggers(
    new_project: NewProject, kind: str
) -> None:
    """F9: django-syzygy does so in handle(): no AddTrigger was written, and nobody said so."""
    project = new_project(apps=["pgpubsub_sql", "other", "blog"])
    project.write(dict.fromkeys((f"other/{name}__init__.py" for name in PACKAGES), ""))
    project.write({"other/management/commands/makemigrations.py": OF_ITS_OWN + COMMANDS[kind]})
    if kind == "own":  # Django wants both commands to have the same
        same = BRINGS_ITS_OWN.replace("django.db.migrations.autodetector", SAME)
        same = same.replace("MigrationAutodetector", "Autodetector")
        project.write({"other/management/commands/migrate.py": same})
    project.write(authors("insert"))
    assert "the other autodetector was here" in project.run("makemigrations")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    project.run("migrate")
    assert tell(project) == ["blog.Authors INSERT"]
    assert_quiet(project)
    project.write(authors("insert", "update"))
    output = project.run("makemigrations", "--check", "--dry-run", code=1)
    assert "Alter trigger of channel blog.Authors" in output


STATES = """
from django.core.management.base import BaseCommand
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ProjectState


class Command(BaseCommand):
    def handle(self, *args, **options):
        empty = ProjectState()
        print(MigrationAutodetector(empty, empty)._detect_changes())
"""


def test_comparing_states_without_migrations_ignores_triggers(new_project: NewProject) -> None:
    """F9: who compares two states, as tools and tests do, hears of the models alone."""
    project = new_project(apps=["pgpubsub_sql", "other", "blog"])
    project.write(dict.fromkeys((f"other/{name}__init__.py" for name in PACKAGES), ""))
    project.write({"other/management/commands/states.py": STATES})
    project.write(authors("insert"))
    assert project.run("states").strip() == "{}"


BRINGS_ITS_OWN = """
from django.core.management.commands import migrate
from django.db.migrations.autodetector import MigrationAutodetector


class Command(migrate.Command):
    autodetector = MigrationAutodetector
"""


@pytest.mark.parametrize(
    "apps", [["pgpubsub_sql", "other"], ["other", "pgpubsub_sql"]], ids=["before", "after"]
)
def test_a_package_with_its_own_makemigrations_works_with_ours(
    new_project: NewProject, apps: list[str]
) -> None:
    """T11: as django-tenants has. Django wants both commands to have the same autodetector."""
    project = new_project(apps=[*apps, "blog"])
    project.write(dict.fromkeys((f"other/{name}__init__.py" for name in PACKAGES), ""))
    project.write({"other/management/commands/migrate.py": BRINGS_ITS_OWN})
    install(project, authors("insert"))
    assert "no issues" in project.run("check")
    assert tell(project) == ["blog.Authors INSERT"]
    assert_quiet(project)


STAMPED = """
import pgtrigger
from django.db import models


class Author(models.Model):
    name = models.TextField()
    {field}

    class Meta:
        triggers = [
            pgtrigger.Trigger(
                name="shout",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func="NEW.name = upper(NEW.name); RETURN NEW;",
            )
        ]
"""


@pytest.mark.parametrize(
    "apps", [["pgpubsub_sql", "pgtrigger"], ["pgtrigger", "pgpubsub_sql"]], ids=["before", "after"]
)
def test_django_pgtrigger_works_beside_ours(new_project: NewProject, apps: list[str]) -> None:
    """T11: both write their operations and install their triggers, on one model."""
    project = new_project(apps=[*apps, "blog"])
    versions = [("", ["insert"]), ("age = models.TextField(null=True)", ["insert", "update"])]
    for number, (field, events) in enumerate(versions, start=1):
        install(project, {**authors(*events), "blog/models.py": STAMPED.format(field=field)})
        assert "no issues" in project.run("check")
        assert len(project.migrations()) == number
        assert_quiet(project)
        assert tell(project) == [f"blog.Authors {event.upper()}" for event in events]
        project.sql("INSERT INTO blog_author (name) VALUES ('Ann')")
        names = "DELETE FROM pgpubsub_sql_notification RETURNING payload->'new'->>'name'"
        assert project.sql(names) == [("ANN",)]
        project.sql("DELETE FROM blog_author")
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
