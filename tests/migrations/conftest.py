from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgpubsub_sql.embedded import Server
from tests.migrations.harness import Project


@pytest.fixture
def new_project(server: Server, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make projects, and end their processes."""
    made: list[Project] = []

    def make(**options: object) -> Project:
        root = tmp_path / f"project-{len(made)}"
        root.mkdir()
        made.append(Project(root, **options))
        return made[-1]

    yield make
    for project in made:
        project.close()


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project with pgpubsub_sql and an app ``blog``."""
    return new_project()
