"""The signals by name, and messages that kill their workers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.dispatch import Signal

from pgpubsub_sql import Notification, signals
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job
from tests.delivery.sending import drain, jobs

ALL = {name: value for name, value in vars(signals).items() if isinstance(value, Signal)}
DO_JOB = "tests.app.listeners.do_job"


def names(told: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _ in told]


class Death(BaseException):
    """What nobody catches."""


def die() -> None:
    raise Death


def die_of(*attempts: int) -> None:
    """Have workers die of jobs that had failed so often, each alone; account for them."""
    jobs(*["die"] * len(attempts))
    for number, count in enumerate(attempts, 1):
        found = Notification.objects.filter(payload__number=number)
        found.update(attempts=count, alone=True)
    for _ in attempts:
        with pytest.raises(Death):
            drain(Delivery([Job], using="default"))
    drain(Delivery([Job], using="default"))


KEYS = ("channel", "notification_id", "attempt", "listener", "duration")


def extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: vars(record)[key] for key in KEYS}
