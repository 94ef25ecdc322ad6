"""Triggers of apps without migrations, which ``migrate`` installs as well."""

from __future__ import annotations

import pytest

from tests.migrations.cases import assert_quiet, install, tell
from tests.migrations.harness import Project
from tests.migrations.versions import AUTHOR, app, authors, channel, on, people, watcher

NOTHING = """
class NoMigrations(dict):
    def __contains__(self, label):
        return True

    def __getitem__(self, label):
        return None


MIGRATION_MODULES = NoMigrations()
"""


@pytest.mark.parametrize(
    "settings",
    ['MIGRATION_MODULES = {"blog": None}', NOTHING],
    ids=["an app", "all of them, as --nomigrations has it"],
)
def test_triggers_are_installed_with_migrations_turned_off(project: Project, settings: str) -> None:
    """P15: every write succeeds and is told, and what changes in the code changes here."""
    project.configure(settings, apps=["pgpubsub_sql", "blog"])
    project.write(authors("insert"))
    assert_quiet(project)
    assert "no issues" in project.run("check")
    project.run("migrate", "--run-syncdb")
    assert tell(project) == ["blog.Authors INSERT"]
    first = project.catalogue()
    project.run("migrate", "--run-syncdb")
    assert project.catalogue() == first

    for events in (["insert"], ["update", "delete"]):
        project.write(authors(*events, lock_notifications=False))
        project.run("migrate", "--run-syncdb")
        assert tell(project) == [f"blog.Authors {event.upper()}" for event in events]
        assert "agree" in project.run("pgpubsub", "verify")


def test_a_migrations_package_added_later_takes_over(project: Project) -> None:
    """P24: an app that has none is watched; when it gets one, that takes over."""
    project.write(app("blog", models=AUTHOR, channels=channel(), listeners=on("insert")))
    assert "python manage.py makemigrations blog" in project.run("check")
    project.run("migrate")
    assert project.catalogue() == frozenset()  # as there is no table yet
    project.run("migrate", "--run-syncdb")
    assert tell(project) == ["blog.Authors INSERT"]

    project.run("makemigrations", "blog")
    project.run("migrate", "--fake-initial")
    assert_quiet(project)
    assert tell(project) == ["blog.Authors INSERT"]
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()


def test_an_app_without_migrations_can_watch_another_apps_model(project: Project) -> None:
    """P24: one ``migrate`` is enough, and says nothing of the other app."""
    project.configure(
        'MIGRATION_MODULES = {"aardvark": None}', apps=["pgpubsub_sql", "people", "aardvark"]
    )
    install(project, people(AUTHOR), watcher("aardvark", "people.Author"))
    assert tell(project, "people_author") == ["aardvark.Authors INSERT"]
    assert_quiet(project)


LITE = """
DATABASES["other"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "other.sqlite3"}
"""


def test_a_database_that_is_not_postgresql_is_left_alone(project: Project) -> None:
    """``migrate --database other`` works where there are no triggers like ours."""
    project.configure(LITE + NOTHING, apps=["pgpubsub_sql", "blog"])
    project.write(authors("insert"))
    project.run("migrate", "--run-syncdb", "--database", "other")
    assert project.catalogue() == frozenset()


TESTS = """
from django.test import TransactionTestCase

from blog.models import Author
from pgpubsub_sql.models import Notification


class Writes(TransactionTestCase):
    def test_one(self):
        Author.objects.create(name="Ann")
        self.assertEqual(Notification.objects.count(), 1)

    def test_another_after_a_flush(self):
        self.test_one()
"""


@pytest.mark.parametrize("migrate", [True, False])
def test_a_projects_tests_see_what_is_stored(project: Project, migrate: bool) -> None:
    """P15: they see what is stored, with migrations and without."""
    settings = f'DATABASES["default"]["TEST"] = {{"MIGRATE": {migrate}}}'
    project.configure(settings, apps=["pgpubsub_sql", "blog"])
    project.write({**authors("insert"), "blog/tests.py": TESTS})
    project.run("makemigrations")
    output = project.run("test", "--noinput", "blog")
    assert "Ran 2 tests" in output
