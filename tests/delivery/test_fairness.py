"""A flood on one channel leaves room for the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pgpubsub_sql import notify
from pgpubsub_sql.worker import batch, claims
from pgpubsub_sql.worker import worker as worker_module
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job, Shout, Step
from tests.delivery.sending import jobs
from tests.ledger import numbers, sql, stored
from tests.workers import connected

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(transactional_db: None) -> Iterator[Worker]:
    """A worker that listens and has found nothing to claim."""
    with connected(Job, Step, Shout) as worker:
        for name in worker.delivery.channels:
            worker.delivery.handle_stored(name)
        yield worker


def test_stored_messages_of_one_channel_do_not_starve_another(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P27: a batch of each in turn, and batches are short, however much there is."""
    monkeypatch.setattr(claims, "RESTART_SECONDS", 60.0)
    jobs(*["good"] * 300)
    notify(Step("a", 1))
    worker._poll_at = dict.fromkeys(worker._poll_at, 0.0)
    worker._poll()
    assert numbers("step") == [1]
    assert 0 < len(numbers("do_job")) <= batch.FIRST_BATCH


def test_a_slow_listener_does_not_starve_another_channel(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P27: the batch of a slow channel ends after one message, and the rest is given back."""
    monkeypatch.setattr(claims, "RESTART_SECONDS", 60.0)
    monkeypatch.setattr(batch, "BATCH_SECONDS", 1e-9)
    jobs(*["good"] * 10)
    notify(Step("a", 1))
    worker._poll_at = dict.fromkeys(worker._poll_at, 0.0)
    worker._poll()
    assert numbers("do_job") == [1]
    assert numbers("step") == [1]


def test_ephemeral_messages_do_not_starve_stored_ones(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P27: what is stored has its turn between them; none of them is lost, nor out of order."""
    monkeypatch.setattr(worker_module, "EPHEMERAL_SECONDS", 0.0)
    for number in range(1, 6):
        notify(Shout(number))
    notify(Job(number=1))
    while not worker._ephemeral:
        worker.step()
    while not numbers("do_job"):
        worker.step()
    assert len(numbers("hear")) < 5
    while worker._ephemeral:
        worker.step()
    assert numbers("hear") == [1, 2, 3, 4, 5]
    assert not stored()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_batch_is_read_committed_whatever_the_default(
    worker: Worker, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it could skip nothing that others hold, and see nothing that others commit."""
    sql(f"SET default_transaction_isolation = '{level}'")
    worker.delivery.session._baseline = None
    try:
        seen: list[Any] = []
        ask = "SELECT current_setting('transaction_isolation')"
        monkeypatch.setattr("tests.app.listeners.behave", lambda *_: seen.extend(sql(ask)))
        jobs("good", "good")
        worker.delivery.handle_stored("app.Job")
        assert seen == [("read committed",)] * 2
    finally:
        sql("RESET default_transaction_isolation")
    assert numbers("do_job") == [1, 2]
