"""The test kit in a project of each kind, outside of this repository: ``make test-kit``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgpubsub_sql.embedded import Server
from tests.conformance import drivers

pytestmark = pytest.mark.timeout(300)

DATA = """
from django.db import migrations


def add(apps, schema_editor):
    model = apps.get_model("shop", "Order")
    model.objects.using(schema_editor.connection.alias).create(name="of a migration")


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
"""


class Project:
    """A copy of ``project/``, with one of the drivers."""

    def __init__(self, directory: Path, server: Server, driver: str) -> None:
        self.directory = directory
        self.environment = os.environ | server.environment() | drivers.environment(driver)
        self.environment["PYTEST_PLUGINS"] = "pytest_pgpubsub_sql"
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)

    def manage(self, *arguments: str) -> str:
        return self.run("manage.py", *arguments)

    def pytest(self, *arguments: str) -> str:
        return self.run("-m", "pytest", "-p", "no:cacheprovider", "--ds", "settings", *arguments)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module", params=sorted(drivers.PATHS))
def project(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    if not drivers.is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    directory = tmp_path_factory.mktemp("trial") / "project"
    shutil.copytree(Path(__file__).parent / "project", directory)
    made = Project(directory, server, request.param)
    made.manage("makemigrations", "--name", "initial", "shop")
    (directory / "shop/migrations/0002_data.py").write_text(DATA)
    return made


def test_the_test_runner(project: Project) -> None:
    assert "\nOK" in project.manage("test")


def test_it_in_parallel(project: Project) -> None:
    assert "\nOK" in project.manage("test", "--parallel", "2")


def test_a_database_that_is_kept(project: Project) -> None:
    """Django does not bring back in a second run what the first has truncated."""
    for _ in range(2):
        assert "\nOK" in project.manage("test", "--keepdb", "--exclude-tag", "serialized")
    project.manage("test", "--noinput", "shop.tests.TriggersTest")


def test_pytest(project: Project) -> None:
    assert " passed" in project.pytest("shop/tests.py", "shop/test_pytest.py")


def test_pytest_in_parallel(project: Project) -> None:
    assert " passed" in project.pytest("-n", "2", "shop/tests.py", "shop/test_pytest.py")


def test_pytest_without_migrations(project: Project) -> None:
    chosen = "not Serialized"  # there is no data migration to bring rows back
    assert " passed" in project.pytest(
        "--nomigrations", "-k", chosen, "shop/tests.py", "shop/test_pytest.py"
    )


def test_pytest_with_a_database_that_is_kept(project: Project) -> None:
    for _ in range(2):
        assert " passed" in project.pytest("--reuse-db", "shop/test_pytest.py")
    project.pytest("--create-db", "shop/test_pytest.py")
