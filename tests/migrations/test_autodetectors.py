"""Other packages that hook the autodetector."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.migrations.cases import assert_quiet, install, operations, tell
from tests.migrations.harness import Project
from tests.migrations.versions import (
    authors,
)

NewProject = Callable[..., Project]


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
OVERWRITES = COMPOSES.replace(
    "(Mixin, makemigrations.Command.autodetector)",
    "(Mixin, __import__('django.db.migrations.autodetector', fromlist=['x']).MigrationAutodetector)",
)


@pytest.mark.parametrize(
    "apps", [["pgpubsub_sql", "other"], ["other", "pgpubsub_sql"]], ids=["before", "after"]
)
def test_a_package_that_composes_the_autodetector(new_project: NewProject, apps: list[str]) -> None:
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


def test_a_package_that_overwrites_the_autodetector(new_project: NewProject) -> None:
    """T11: W001 says what happened and what to do; done, it is quiet."""
    project = new_project(apps=["pgpubsub_sql", "other", "blog"])
    project.write({"other/__init__.py": "", "other/apps.py": OVERWRITES})
    project.write(authors("insert"))
    output = project.run("check")
    assert "pgpubsub_sql.W001" in output
    assert "before pgpubsub_sql in INSTALLED_APPS" in output

    project.configure(apps=["other", "pgpubsub_sql", "blog"])
    assert "no issues" in project.run("check")
    project.run("makemigrations")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]


PACKAGES = ("", "management/", "management/commands/")
BRINGS_ITS_OWN = """
from django.core.management.commands import migrate
from django.db.migrations.autodetector import MigrationAutodetector


class Command(migrate.Command):
    autodetector = MigrationAutodetector
"""


@pytest.mark.parametrize(
    "apps", [["pgpubsub_sql", "other"], ["other", "pgpubsub_sql"]], ids=["before", "after"]
)
def test_a_package_with_a_command_of_its_own(new_project: NewProject, apps: list[str]) -> None:
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
def test_django_pgtrigger(new_project: NewProject, apps: list[str]) -> None:
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
