"""Projects that ``manage.py pgpubsub`` is run in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.migrations.conftest import commands, new_project, other
from tests.migrations.harness import Project
from tests.migrations.versions import blog, channel, model, on

__all__ = ["commands", "new_project", "other", "project"]


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project with a durable channel whose trigger is installed, and a channel without rows."""
    project: Project = new_project()
    reads = (
        "@dataclass\nclass Reads(pgpubsub_sql.Channel):\n    model_id: int\n    note: str = ''\n"
    )
    project.write(
        blog(
            models=model(),
            channels="from dataclasses import dataclass\n" + channel() + reads,
            listeners=on("insert"),
        )
    )
    project.run("makemigrations", "blog")
    project.run("migrate", "-v0")
    return project
