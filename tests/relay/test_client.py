"""The client reads and writes headers as nats-py does, at a fraction of the cost."""

from __future__ import annotations

import asyncio
import itertools
import tomllib
from importlib.metadata import version
from typing import Any

import pytest
from nats.aio.client import Client as NatsClient
from packaging.requirements import Requirement
from packaging.version import Version

from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.client import Client
from pgpubsub_sql.relay.consumer import Consumer
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.position import identity
from tests.conftest import ROOT


@pytest.mark.parametrize("group", ["optional-dependencies", "dependency-groups"])
def test_no_minor_version_is_admitted_that_was_not_tested(group: str) -> None:
    """The client overrides private methods."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = (found["project"] | found)[group].values()
    (needed,) = [
        needed
        for text in itertools.chain(*lists)
        if (needed := Requirement(text)).name == "nats-py"
    ]
    tested = Version(version("nats-py"))
    assert tested in needed.specifier
    assert Version(f"{tested.major}.{tested.minor + 1}") not in needed.specifier
    assert Version(f"{tested.major + 1}.0") not in needed.specifier


def read(client: type[NatsClient], raw: bytes | None) -> Any:
    return asyncio.run(client()._process_headers(raw))


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: order-1\r\nce-type: app.Job\r\n\r\n",
        b"NATS/1.0\r\nTight:x\r\nLoose: \t y \r\nEmpty:\r\nno colon\r\nUrl: a:b\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: first\r\nNats-Msg-Id: second\r\n\r\n",
        "NATS/1.0\r\nName: Zoë 🐘\r\n\r\n".encode(),
        "NATS/1.0\r\nId: \xa0\x1fa\u2003\x85\r\nOther:\x0b\x0cb\r\n\r\n".encode(),
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n",
    ],
)
def test_headers_are_read_as_nats_py_reads_them(raw: bytes | None) -> None:
    assert read(Client, raw) == (read(NatsClient, raw) or ({} if raw else None))


def written(client: type[NatsClient], headers: dict[str, str] | None) -> bytes:
    sent = []

    async def write() -> None:
        one = client()

        async def send(command: bytes) -> None:
            sent.append(command)

        one._send_command = send  # type: ignore[method-assign, assignment]
        await one._send_publish("a.b", "reply", b"{}", 2, headers)

    asyncio.run(write())
    return sent[0]


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"Nats-Msg-Id": "order-1", "ce-type": "app.Job"},
        {"Name": "Zoë 🐘"},
        {"Name": "a\r\nInjected: b"},
        {"Name": "a\nb"},
    ],
)
def test_headers_are_written_as_nats_py_writes_them(headers: dict[str, str] | None) -> None:
    assert written(Client, headers) == written(NatsClient, headers)


def test_ids_that_are_no_text_stay_apart(broker: Broker, stream: Stream) -> None:
    """A program may send any bytes; nats-py reads all that are not UTF-8 as the same."""

    async def exchange() -> list[str | None]:
        for strange in ("\udcfe", "\udcff"):
            raw = f"NATS/1.0\r\nNats-Msg-Id: x{strange}\r\n\r\n".encode(errors="surrogateescape")
            size = f"{len(raw)} {len(raw) + 2}"
            command = f"HPUB {stream.subject} {size}\r\n".encode() + raw + b"{}\r\n"
            await broker.client._send_command(command)
            await broker.client.flush()
        async with Consumer.opened(broker, stream, 1) as consumer:
            found = await consumer.read()
            while len(found) < 2:
                found += await consumer.read()
        return [identity(one) for one in found]

    one, other = broker.run(exchange(), 20)
    assert one != other
