"""A network that falls silent: nothing is refused, and nothing answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings as hypothesis_settings

from pgpubsub_sql import notify
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.ledger import listeners_wait, waiting
from tests.proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)


class Network:
    """A network of two hosts: this one, and one where a process runs."""

    def __init__(self) -> None:
        self.name = f"pgpubsub{uuid.uuid4().hex[:6]}"
        self.host = "10.213.77.1"
        self.within = ("ip", "netns", "exec", self.name)

    def __enter__(self) -> Network:
        try:
            self._ip("netns", "add", self.name)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no network can be made here")
        self._ip("link", "add", self._here, "type", "veth", "peer", "name", "there")
        self._ip("link", "set", "there", "netns", self.name)
        self._ip("addr", "add", f"{self.host}/30", "dev", self._here)
        self._ip("link", "set", self._here, "up")
        self._ip("-n", self.name, "addr", "add", "10.213.77.2/30", "dev", "there")
        self._ip("-n", self.name, "link", "set", "there", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._ip("netns", "del", self.name)

    def fall_silent(self) -> None:
        """Lose whatever is sent from here on."""
        subprocess.run(
            ["tc", "qdisc", "add", "dev", self._here, "root", "pfifo", "limit", "0"],
            check=True,
            capture_output=True,
        )

    @property
    def _here(self) -> str:
        return self.name[-14:]

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    if hypothesis_settings.get_current_profile_name() != "long":
        pytest.skip("takes a minute")
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("no network can be made here")
    with Network() as network:
        yield network


@pytest.mark.parametrize("arguments", [(), ("--worker",)], ids=["supervised", "alone"])
def test_stopping_during_a_network_outage_takes_less_than_a_minute(
    listen: Callable[..., Listen], network: Network, arguments: tuple[str, ...]
) -> None:
    """F38: it was ignored until the query came to its end, two hours later."""
    with Proxy(network.host) as proxy:
        worker = listen(
            "--channels", "app.Job", *arguments, within=network.within, **proxy.environment()
        ).ready()
        with listeners_wait():
            notify(Job(number=1, mood="wait"))
            eventually(lambda: waiting() == 1)
            network.fall_silent()
            worker.process.terminate()
            assert worker.process.wait(55) in (0, 1)
    assert "Stored messages of channel app.Job cannot be handled now" in worker.log
