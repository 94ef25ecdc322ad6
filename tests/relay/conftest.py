"""A broker for the tests of the relay."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from example.relay.servers import Nats
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import make


@pytest.fixture(scope="session")
def nats() -> Iterator[Nats]:
    """One nats-server, which tests share and leave running."""
    with Nats() as nats:
        yield nats


@pytest.fixture
def relay(nats: Nats) -> RelaySettings:
    """Settings of the relay for the shared server, with an origin of this test's own."""
    origin = f"test-{uuid.uuid4().hex[:12]}"
    return RelaySettings(servers=tuple(nats.urls), origin=origin, sources=("x",), replicas=1)


@pytest.fixture
def broker(relay: RelaySettings) -> Iterator[Broker]:
    """A connection to the shared server."""
    with Broker(relay) as broker:
        yield broker


@pytest.fixture
def stream(broker: Broker) -> Stream:
    """A new stream of the channel ``app.Job``."""
    assert broker.settings.origin
    stream = Stream(origin=broker.settings.origin, channel="app.Job", generation=1, partition=0)
    assert broker.run(make(broker, stream)) == "made"
    return stream


@pytest.fixture
def info(broker: Broker) -> Callable[[Stream], dict[str, Any]]:
    """Return what the broker says of a stream."""
    return lambda stream: broker.run(broker.api(f"STREAM.INFO.{stream}"))
