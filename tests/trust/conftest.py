"""A worker, and roles that may do nothing but connect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.ledger import sql
from tests.trust.support import session


@pytest.fixture(autouse=True)
def patient(patience: None) -> None:
    """Keep batches from ending early on a busy machine."""


@pytest.fixture
def role() -> Iterator[str]:
    """A role that may do nothing but connect."""
    sql("CREATE ROLE pgpubsub_stranger")
    yield "pgpubsub_stranger"
    sql("DROP OWNED BY pgpubsub_stranger")
    sql("DROP ROLE pgpubsub_stranger")


@pytest.fixture
def forger(role: str) -> Iterator[Any]:
    with session(role) as cursor:
        yield cursor
