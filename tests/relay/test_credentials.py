"""Each way in which a user of the broker shows who it is."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys
import pytest

from example.relay.servers import Nats
from pgpubsub_sql.errors import BrokerRefused, BrokerUnavailable
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.settings import RelaySettings
from tests.relay.test_broker import certificates

UNLIMITED = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
) | dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def new_seed(prefix: int = nkeys.PREFIX_BYTE_USER) -> bytes:
    return bytes(nkeys.encode_seed(os.urandom(32), prefix))


def public(seed: bytes) -> str:
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())


def answers(settings: RelaySettings) -> bool:
    with Broker(settings) as broker:
        return bool(broker.run(broker.api("INFO")))


def is_refused(settings: RelaySettings) -> bool:
    with pytest.raises(BrokerRefused, match="Correct the credentials in PGPUBSUB_RELAY"):
        answers(settings)
    return True


def test_a_token() -> None:
    with Nats(extra="authorization { token: right }") as nats:
        servers = tuple(nats.urls)
        assert answers(RelaySettings(servers=servers, token="right"))
        assert is_refused(RelaySettings(servers=servers, token="wrong"))


def test_a_seed(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.nk", tmp_path / "wrong.nk"
    for file in (right, wrong):
        file.write_bytes(new_seed())
    users = f"authorization {{ users: [ {{ nkey: {public(right.read_bytes())} }} ] }}"
    with Nats(extra=users) as nats:
        servers = tuple(nats.urls)
        assert answers(RelaySettings(servers=servers, nkey_seed=str(right)))
        assert is_refused(RelaySettings(servers=servers, nkey_seed=str(wrong)))


def signed(issuer: bytes, subject: str, kind: str, claims: dict[str, Any]) -> str:
    """Return a JWT as NATS writes it."""
    parts = [
        {"typ": "JWT", "alg": "ed25519-nkey"},
        {
            "jti": "1",
            "iat": int(time.time()),
            "iss": public(issuer),
            "sub": subject,
            "name": kind,
            "nats": {**claims, "type": kind, "version": 2},
        },
    ]
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(nkeys.from_seed(bytearray(issuer)).sign(text.encode()))}"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def credentials(account: bytes, file: Path) -> str:
    """Write the credentials of a new user of *account* into *file*; return its path."""
    seed = new_seed()
    limits = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    jwt = signed(account, public(seed), "user", limits)
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return str(file)


def test_a_file_of_credentials(tmp_path: Path) -> None:
    operator = new_seed(nkeys.PREFIX_BYTE_OPERATOR)
    account, other, system = (new_seed(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(3))
    trusted = [
        f"{public(one)}: {signed(operator, public(one), 'account', {'limits': limits})}"
        for one, limits in ((account, UNLIMITED), (system, {}))
    ]
    extra = (
        f"operator: {signed(operator, public(operator), 'operator', {})}\nresolver: MEMORY\n"
        f"system_account: {public(system)}\nresolver_preload: {{ {', '.join(trusted)} }}"
    )
    with Nats(extra=extra) as nats:
        servers = tuple(nats.urls)
        good, bad = (credentials(one, tmp_path / public(one)) for one in (account, other))
        assert answers(RelaySettings(servers=servers, credentials=good))
        assert is_refused(RelaySettings(servers=servers, credentials=bad))


def test_a_certificate_of_the_client(tmp_path: Path) -> None:
    certificates(tmp_path)
    tls = (
        f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key"\n'
        f'ca_file: "{tmp_path}/ca.pem", verify: true }}'
    )
    with Nats(extra=tls) as nats:
        urls = tuple(url.replace("nats://", "tls://") for url in nats.urls)
        files = {"tls_certificate": "server.pem", "tls_key": "server.key", "tls_ca": "ca.pem"}
        given = {name: str(tmp_path / file) for name, file in files.items()}
        settings = RelaySettings(servers=urls, **given)  # type: ignore[arg-type]
        assert answers(settings)
        with pytest.raises((BrokerRefused, BrokerUnavailable)):
            answers(dataclasses.replace(settings, tls_certificate=None, tls_key=None))
