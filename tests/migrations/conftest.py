from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgpubsub_sql.embedded import Server

from tests.migrations.harness import Commands, Database, Project


@pytest.fixture(scope="session")
def commands(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """What runs the commands of all projects."""
    commands = Commands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


@pytest.fixture
def new_project(commands: Commands, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make projects, and drop their databases at the end."""
    made: list[Project] = []

    def make(**options: object) -> Project:
        root = tmp_path / f"project-{len(made)}"
        root.mkdir()
        made.append(Project(root, commands, **options))
        return made[-1]

    yield make
    for project in made:
        project.close()
        project.drop()


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project with pgpubsub_sql and an app ``blog``."""
    return new_project()


@pytest.fixture
def other(server: Server) -> Iterator[Database]:
    """A second database."""
    database = Database()
    yield database
    database.drop()
