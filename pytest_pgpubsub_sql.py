"""The pytest plugin of pgpubsub_sql: the fixture ``pubsub``.

It is a module of its own because pytest imports it in every project that has the package installed,
and importing the package imports Django's models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pgpubsub_sql.testing import PubSub


@pytest.fixture
def pubsub() -> PubSub:
    """The test kit of pgpubsub_sql. The test also needs a database: mark it with ``django_db``."""
    from pgpubsub_sql.testing import PubSub

    return PubSub()
