from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.migrations.conftest import commands, new_project, project
from tests.moving.old import FORGOTTEN, TABLE, execute

__all__ = ["commands", "new_project", "project"]


@pytest.fixture
def old(db: None) -> None:
    """The table of django-pgpubsub, within the transaction of the test."""
    execute(TABLE)


@pytest.fixture
def committed(transactional_db: None) -> Iterator[None]:
    """The same, for other sessions to see."""
    execute(TABLE)
    yield
    execute(FORGOTTEN)
