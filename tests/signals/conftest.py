"""Receivers that are disconnected at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Shout
from tests.signals.support import ALL


@pytest.fixture(autouse=True)
def patient(patience: None) -> None:
    """Keep batches from ending early on a busy machine."""


@pytest.fixture
def delivery() -> Delivery:
    return Delivery([Job, Shout], using="default", schema="public")


@pytest.fixture
def connect() -> Iterator[Callable[..., None]]:
    """Connect a receiver; it is disconnected at the end."""
    connected: list[tuple[Signal, Any, Any]] = []

    def connect(signal: Signal, receiver: Any, sender: Any = None) -> None:
        connected.append((signal, receiver, sender))
        signal.connect(receiver, sender=sender, weak=False)

    yield connect
    for signal, receiver, sender in connected:
        assert signal.disconnect(receiver, sender=sender)


@pytest.fixture
def told(connect: Callable[..., None]) -> list[tuple[str, dict[str, Any]]]:
    """Everything that is told, with the arguments."""
    told: list[tuple[str, dict[str, Any]]] = []

    def tell(name: str) -> Callable[..., None]:
        return lambda **arguments: told.append((name, arguments))

    for name, signal in ALL.items():
        connect(signal, tell(name))
    return told
