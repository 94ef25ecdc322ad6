"""Another schema and another role, and what messages find."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.delivery.sending import drain
from tests.delivery.session.support import TENANT, Seen
from tests.ledger import stranger


@pytest.fixture(autouse=True)
def tenant(transactional_db: None) -> Iterator[None]:
    """Another schema with tables of the same names, and a role that may do nothing."""
    with stranger() as other:
        other.execute(TENANT)
        yield
        connection.close()
        other.execute("DROP SCHEMA tenant CASCADE; DROP ROLE weak")


@pytest.fixture
def seen(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What messages in the mood "look" find; first of all, what there was before."""
    drain(delivery)
    seen = Seen()
    seen()
    monkeypatch.setitem(listeners.MOODS, "look", seen)
    return seen
