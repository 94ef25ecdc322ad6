"""One Delivery, called by hand."""

from __future__ import annotations

import pytest

from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import ItemChannel, ItemNews, Job, Shout, Step
from tests.delivery.channels import Hasty, HastyShout, LoneJob, Twice

CHANNELS = [Job, Shout, ItemChannel, ItemNews, Hasty, HastyShout, LoneJob, Step, Twice]


@pytest.fixture(autouse=True)
def start_afresh(patience: None) -> None:
    listeners.called.clear()
    listeners.lists.clear()


@pytest.fixture
def delivery(transactional_db: None) -> Delivery:
    return Delivery(CHANNELS, using="default", schema="public")
