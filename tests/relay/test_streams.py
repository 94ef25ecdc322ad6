"""Streams: nothing but age may remove a message, and whatever differs is named."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import pytest

from example.relay.servers import Nats
from pgpubsub_sql.errors import BrokerRefused
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.owner import Owner, owner_of
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import (
    configuration,
    existing,
    make,
    missing_replicas,
    nanoseconds,
    newest,
    problems,
    streams_of,
    wanted,
)
from tests.conftest import eventually

OURS = Owner(identity="7000000000000000000/16384", database="shop")
THEIRS = Owner(identity="7000000000000000000/16385", database="copy")


def test_a_stream_is_made_once_as_it_should_be(
    broker: Broker, stream: Stream, info: Callable[[Stream], dict[str, Any]]
) -> None:
    assert broker.run(make(broker, stream)) == "exists"
    assert broker.run(make(broker, stream, OURS)) == "changed"
    assert broker.run(make(broker, stream)) == "exists"
    assert broker.run(problems(broker, stream, OURS)) == []
    config = info(stream)["config"]
    metadata = config.pop("metadata")
    assert OURS.metadata().items() <= metadata.items()  # the broker adds what it needs
    expected = configuration(stream, broker.settings) | {"metadata": False}
    assert {key: config.get(key, False) for key in expected} == expected


@pytest.mark.parametrize("verb", ["PURGE", "MSG.DELETE"])
def test_no_message_can_be_removed(broker: Broker, stream: Stream, verb: str) -> None:
    broker.run(broker.request(stream.subject, b"{}"))
    with pytest.raises(BrokerRefused, match="not permitted"):
        broker.run(broker.api(f"STREAM.{verb}.{stream}", {"seq": 1} if "MSG" in verb else None))


def test_what_differs_is_named_and_put_right(broker: Broker, stream: Stream) -> None:
    broker.run(make(broker, stream, OURS))
    broker.settings = dataclasses.replace(broker.settings, max_age=datetime.timedelta(days=2))
    (problem,) = broker.run(problems(broker, stream, OURS))
    assert problem.startswith("It has max_age = 604800000000000, not 172800000000000. Run: ")
    assert broker.run(make(broker, stream, OURS)) == "changed"
    assert broker.run(problems(broker, stream, OURS)) == []


def test_a_stream_that_is_missing_is_named(broker: Broker) -> None:
    (stream,) = streams_of("shop", "app.Nothing", broker.settings)
    assert broker.run(problems(broker, stream, OURS)) == [
        "It does not exist. Run: python manage.py pgpubsub relay --setup"
    ]


def test_a_stream_has_one_owner_at_a_time(
    broker: Broker, stream: Stream, info: Callable[[Stream], dict[str, Any]]
) -> None:
    """Whoever looks sees whether it is another database, or none; its name does not matter."""
    (problem,) = broker.run(problems(broker, stream, OURS))
    assert "does not say which database publishes to it" in problem
    assert owner_of(info(stream)) is None
    broker.run(make(broker, stream, THEIRS))
    (problem,) = broker.run(problems(broker, stream, OURS))
    assert "'copy' (oid 16385, system 7000000000000000000) publishes" in problem
    assert "this one, 'shop' (oid 16384, system 7000000000000000000)" in problem
    with pytest.raises(BrokerRefused, match=r"'copy' .* publishes to the stream"):
        broker.run(make(broker, stream, OURS))
    assert owner_of(info(stream)) == THEIRS
    assert broker.run(make(broker, stream, OURS, take_over=True)) == "changed"
    assert owner_of(info(stream)) == OURS
    assert broker.run(problems(broker, stream, dataclasses.replace(OURS, database="new"))) == []


def test_streams_are_found_by_origin_and_channel(broker: Broker) -> None:
    broker.settings = dataclasses.replace(broker.settings, partitions=2)
    origin = broker.settings.publisher()
    wanted = [
        stream
        for channel in ("app.Job", "app.Jobs", "app")
        for stream in streams_of(origin, channel, broker.settings)
    ]
    for stream in wanted:
        broker.run(make(broker, stream))
    for channel in ("app.Job", "app.Jobs", "app"):
        found = broker.run(existing(broker, origin, channel))
        assert found == [stream for stream in wanted if stream.channel == channel]
    assert broker.run(existing(broker, "nobody", "app.Job")) == []


def test_a_stream_of_somebody_else_is_left_out_and_named(broker: Broker, stream: Stream) -> None:
    """It takes subjects of the channel, and is listed among its streams for good."""
    second = dataclasses.replace(stream, generation=2)
    name = f"greedy-{stream.origin}"
    greedy = {"name": name, "subjects": [second.subject]}
    broker.run(broker.api(f"STREAM.CREATE.{name}", greedy))
    assert broker.run(existing(broker, stream.origin, stream.channel), 10) == [stream]
    with pytest.raises(BrokerRefused, match=rf"{name} takes its messages. Remove the subject"):
        broker.run(make(broker, second))


def test_another_number_of_partitions_is_a_newer_generation(relay: RelaySettings) -> None:
    one = streams_of("shop", "app.Job", relay)
    four = dataclasses.replace(relay, partitions=4)
    assert wanted("shop", "app.Job", relay, []) == one
    assert wanted("shop", "app.Job", relay, one) == one
    assert wanted("shop", "app.Job", relay, [*one, *one]) == one  # on the broker, and in use
    assert wanted("shop", "app.Job", four, one) == streams_of("shop", "app.Job", four, 2)
    half = [*one, *streams_of("shop", "app.Job", four, 2)[:3]]
    assert wanted("shop", "app.Job", four, half) == streams_of("shop", "app.Job", four, 3)
    assert newest(half) == half[1:]


def test_more_replicas_than_servers_are_refused_with_a_remedy(
    broker: Broker, relay: RelaySettings
) -> None:
    broker.settings = dataclasses.replace(relay, replicas=3)
    (stream,) = streams_of("shop", "app.Job", broker.settings)
    with pytest.raises(BrokerRefused, match=r"cannot have 3 replicas: .*set 'replicas' in"):
        broker.run(make(broker, stream))


def test_a_cluster_keeps_three_replicas() -> None:
    with Nats(3) as nats:
        settings = RelaySettings(servers=tuple(nats.urls), origin="shop")
        with Broker(settings) as broker:
            (stream,) = streams_of("shop", "app.Job", settings)
            assert broker.run(make(broker, stream, OURS)) == "made"
            eventually(lambda: broker.run(problems(broker, stream, OURS)) == [])
            found = broker.run(broker.api(f"STREAM.INFO.{stream}"))
            assert len(found["cluster"]["replicas"]) == 2


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"replicas": []}, "has no leader now"),
        (
            {"leader": "a", "replicas": [{"name": "b", "current": False}]},
            "a replica that is behind",
        ),
        (
            {"leader": "a", "replicas": [{"name": "b", "current": False, "offline": True}]},
            "a replica that is down, on the server b",
        ),
    ],
)
def test_replicas_that_are_missing_are_named(
    broker: Broker, stream: Stream, cluster: dict[str, Any], said: str
) -> None:
    """As a cluster says it, but ten seconds later."""
    found = broker.run(broker.api(f"STREAM.INFO.{stream}"))
    (problem,) = missing_replicas(found | {"cluster": cluster})
    assert said in problem


def test_nanoseconds_are_exact() -> None:
    assert nanoseconds(datetime.timedelta(days=7, microseconds=1)) == 604_800_000_001_000
