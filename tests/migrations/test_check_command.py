"""``manage.py check --deploy`` and ``--database``: W201 and W202."""

from __future__ import annotations

import pytest

from tests.migrations.cases import install
from tests.migrations.harness import Project
from tests.migrations.versions import authors, on

FUNCTION = "pgpubsub_channel_blog__authors"


@pytest.fixture
def project(project: Project) -> Project:
    """Have a channel whose trigger is installed."""
    install(project, authors("insert"))
    return project


def test_check_deploy_reports_code_without_its_migration(project: Project) -> None:
    assert "W201" not in project.run("check", "--deploy")
    project.write({"blog/listeners.py": "import pgpubsub_sql\n" + on("insert", "delete")})
    output = project.run("check", "--deploy")
    assert "pgpubsub_sql.W201" in output
    assert "HINT: Run: python manage.py makemigrations blog" in output


def test_check_database_reports_what_is_not_installed(project: Project) -> None:
    assert "W202" not in project.run("check", "--database", "default")
    project.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    output = project.run("check", "--database", "default")
    assert (
        "In the database 'default', the channel blog.Authors has no trigger in the database"
        in output
    )
    assert "HINT: Run: python manage.py pgpubsub install blog.Authors" in output
    assert "W202" not in project.run("check")


def test_check_database_reports_nothing_before_the_first_migrate(project: Project) -> None:
    project.run("migrate", "blog", "zero", "-v0")
    project.run("migrate", "pgpubsub_sql", "zero", "-v0")
    assert "W202" not in project.run("check", "--database", "default")
