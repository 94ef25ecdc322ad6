"""Channels that keep what is handled."""

from __future__ import annotations

import datetime

import pytest

from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import Job, Load, Step
from tests.delivery.channels import LoneJob

WEEK = datetime.timedelta(days=7)


@pytest.fixture(autouse=True)
def kept(patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep messages of these channels; Step keeps them anyway."""
    for channel in (Job, Load, LoneJob):
        monkeypatch.setattr(channel, "keep", WEEK)
    listeners.called.clear()
    listeners.lists.clear()


@pytest.fixture
def delivery(transactional_db: None) -> Delivery:
    return Delivery([Job, Load, LoneJob, Step], using="default", schema="public")
