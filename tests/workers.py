"""Workers in the process of a test, which takes their steps one by one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.worker import Worker


def hear(delivery: Delivery, name: str, *payloads: str) -> None:
    """Have ephemeral messages handled that have come together."""
    delivery.handle_ephemeral(name, deque(payloads))


@contextmanager
def connected(*channels: Any) -> Iterator[Worker]:
    """Yield a worker that listens to *channels*, and has not polled yet."""
    worker = Worker(channels)
    with worker.shutdown:
        worker._connect()
        yield worker
        worker.doorbell.close()


@contextmanager
def asleep(*channels: Any) -> Iterator[Worker]:
    """Yield a worker that has found nothing, and sleeps."""
    with connected(*channels) as worker:
        fall_asleep(worker)
        yield worker


def poll(worker: Worker, *due: str) -> None:
    """Have the worker handle a batch of each channel that is due; these are."""
    worker._poll_at.update(dict.fromkeys(map(Lane, due), 0.0))
    worker._poll()


def fall_asleep(worker: Worker) -> None:
    """Have the worker find nothing until writers know that it sleeps."""
    worker._poll()
    until = time.monotonic() + 30
    while worker._sleeper.is_awake:
        assert time.monotonic() < until, worker._sleeper._states
        worker._receive()
        worker._poll()
    worker._look_ahead()
