"""Whatever dies, the history has what was handled, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pgpubsub_sql import Handled, Notification, notify
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Load, Step
from tests.conftest import Listen, eventually
from tests.delivery.channels import LoneJob
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import numbers, sql

pytestmark = pytest.mark.django_db(transaction=True)

MOODS = ("good", "good", "bad", "discard", "close", "roll back raw", "unseen error", "terminate")
LEDGERS = {Job: "do_job", Load: "load", LoneJob: "do_lone_job"}


def kept() -> list[int]:
    rows = Handled.objects.filter(outcome="handled")
    return sorted(row.payload["number"] for row in rows)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("channel", LEDGERS)
def test_the_history_is_the_ledger_whatever_listeners_do(
    delivery: Delivery, channel: Any, seed: int
) -> None:
    """Also halfway, between two batches, and after everything was tried again in a better mood."""
    moods = random.Random(seed).choices(MOODS, k=25)
    jobs(*moods, channel=channel)
    name = channel.postgres_name()
    while delivery.handle_stored(name):
        assert kept() == sorted(numbers(LEDGERS[channel]))
    hasten()
    sql("UPDATE pgpubsub_sql_notification SET payload = jsonb_set(payload, '{mood}', '\"good\"')")
    drain(delivery, channel)
    assert kept() == sorted(numbers(LEDGERS[channel]))
    assert not Notification.objects.exists()
    discarded = [number for number, mood in enumerate(moods, 1) if mood == "discard"]
    everything = [*kept(), *discarded]
    assert sorted(everything) == list(range(1, 26))
    assert Handled.objects.filter(outcome="discarded").count() == len(discarded)


@pytest.mark.parametrize("mood", ["kill", "kill all"])
def test_a_worker_that_is_killed_leaves_no_trace_of_its_batch(
    listen: Callable[..., Listen], mood: str
) -> None:
    """SIGKILL, with the copies of the whole batch in the open transaction."""
    for number in range(1, 21):
        notify(Step(account="ab"[number % 2], number=number, mood=mood if number == 9 else "good"))
    first = listen("--channels", "app.Step", "--processes", "2")
    if mood == "kill all":
        first.process.wait(30)
        assert kept() == sorted(numbers("step"))
        for _ in range(Step.retry.max_attempts):
            last = listen("--channels", "app.Step", "--processes", "2")
            last.process.wait(30)
            assert kept() == sorted(numbers("step"))
        listen("--channels", "app.Step", "--processes", "2")
    eventually(lambda: Notification.objects.parked().count() == 1)
    eventually(lambda: Notification.objects.count() == 1)
    assert kept() == sorted(numbers("step")) == sorted({*range(1, 21)} - {9})
