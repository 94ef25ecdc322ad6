"""The connection to the broker: what it needs, and how its failures are told apart."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from example.relay.servers import Nats, free_ports
from pgpubsub_sql.errors import BrokerRefused, BrokerUnavailable, NotReady
from pgpubsub_sql.relay import broker as module
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.settings import RelaySettings
from tests.conftest import eventually

USERS = """
authorization {
  users: [
    { user: admin, password: right }
    { user: shop, password: right, permissions: {
        publish: ["$JS.API.INFO", "pgpubsub.shop.>"], subscribe: ["_INBOX.>"] } }
  ]
}
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[Nats]:
    with Nats(extra=USERS) as nats:
        yield nats


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for a broker that does not answer."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)


def login(nats: Nats, user: str, password: str = "right") -> RelaySettings:
    return RelaySettings(servers=tuple(nats.urls), user=user, password=password, replicas=1)


def test_it_answers(broker: Broker) -> None:
    assert (
        broker.run(broker.api("INFO"))["type"] == "io.nats.jetstream.api.v1.account_info_response"
    )
    assert broker.max_payload == 1048576


@pytest.mark.usefixtures("soon")
def test_a_broker_that_is_down_is_named_with_the_reason() -> None:
    (port,) = free_ports(1)
    with (
        pytest.raises(BrokerUnavailable, match=rf"nats://127.0.0.1:{port}: .*Connect call failed"),
        Broker(RelaySettings(servers=(f"nats://127.0.0.1:{port}",))),
    ):
        pass


def test_a_broker_that_goes_is_unavailable_until_it_comes_back() -> None:
    with Nats() as nats, Broker(RelaySettings(servers=tuple(nats.urls))) as broker:
        (node,) = nats.nodes
        node.kill()
        eventually(lambda: not broker._client.is_connected)
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            broker.run(broker.api("INFO"))
        nats.start()

        def answers() -> bool:
            try:
                return bool(broker.run(broker.api("INFO")))
            except BrokerUnavailable:
                return False

        eventually(answers)


def test_wrong_credentials_are_refused_at_once(guarded: Nats) -> None:
    with (
        pytest.raises(BrokerRefused, match=r"Authorization Violation. Correct the credentials in"),
        Broker(login(guarded, "shop", "wrong")),
    ):
        pass


def test_what_is_not_permitted_says_so_and_what_to_do(guarded: Nats) -> None:
    """Without this, a refusal looks like a timeout."""
    with Broker(login(guarded, "shop")) as broker:
        assert broker.run(broker.api("INFO"))
        with pytest.raises(
            BrokerRefused, match=r'publish to "\$js.api.stream.names".*--setup'
        ) as one:
            broker.run(broker.api("STREAM.NAMES"), 2)
        assert "Grant it" in str(one.value)
        # The connection goes on, and the refusal is not mistaken for that of another request.
        assert broker.run(broker.api("INFO"))


def test_a_stream_that_does_not_exist_is_told_apart_from_a_refusal(broker: Broker) -> None:
    assert broker.run(broker.find("STREAM.INFO.nothing")) is None
    with pytest.raises(BrokerRefused, match=r"STREAM.INFO.nothing: stream not found \(10059\)"):
        broker.run(broker.api("STREAM.INFO.nothing"))


def test_nobody_answering_is_told_at_once(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable, match=r"Nobody answers at pgpubsub\.no"):
        broker.run(broker.request("pgpubsub.no.stream", b"{}"), 2)


def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    with Nats() as nats:
        (node,) = nats.nodes
        node.kill()
        file = nats.folder / "0.conf"
        kept = [line for line in file.read_text().splitlines() if "jetstream" not in line]
        file.write_text("\n".join(kept))
        node.start()
        eventually(node.is_healthy)
        with (
            Broker(RelaySettings(servers=tuple(nats.urls))) as broker,
            pytest.raises((BrokerRefused, BrokerUnavailable), match="JetStream is not enabled"),
        ):
            broker.run(broker.api("INFO"))


def test_an_old_server_is_refused(relay: RelaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OLDEST", (99, 0, 1))
    with pytest.raises(BrokerRefused, match=r"The relay needs 99\.0\.1 or newer"), Broker(relay):
        pass


def test_without_the_client_it_says_what_to_install(
    relay: RelaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    with pytest.raises(NotReady, match=r'pip install "pgpubsub-sql\[nats\]"'), Broker(relay):
        pass


def certificates(folder: Path) -> None:
    """Make an authority, and a certificate of 127.0.0.1 that it has signed."""
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    common = ["-nodes", "-days", "2", "-keyout"]
    for name, more in {
        "ca": ["-subj", "/CN=tests", "-addext", "keyUsage=critical,keyCertSign"],
        "server": [
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key"),
        ],
        "other": ["-subj", "/CN=other", "-addext", "keyUsage=critical,keyCertSign"],
    }.items():
        files = [f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(
            [*openssl, *common, *files, *more], cwd=folder, check=True, capture_output=True
        )


@pytest.mark.usefixtures("soon")
def test_tls_is_checked_against_the_given_authority(tmp_path: Path) -> None:
    certificates(tmp_path)
    tls = f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key" }}'
    with Nats(extra=tls) as nats:
        urls = tuple(url.replace("nats://", "tls://") for url in nats.urls)
        given = RelaySettings(servers=urls, tls_ca=str(tmp_path / "ca.pem"))
        with Broker(given) as broker:
            assert broker.run(broker.api("INFO"))
        other = dataclasses.replace(given, tls_ca=str(tmp_path / "other.pem"))
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"), Broker(other):
            pass
        missing = dataclasses.replace(given, tls_ca=str(tmp_path / "missing.pem"))
        with pytest.raises(NotReady, match="PGPUBSUB_RELAY names cannot be read"), Broker(missing):
            pass
