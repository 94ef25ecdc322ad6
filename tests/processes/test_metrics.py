"""The metrics of ``listen --health-port``: fetched by a thread, which holds up nobody."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from pgpubsub_sql.worker import health
from pgpubsub_sql.worker.health import UNINSTALLED, Answer, Slow, Text, alive
from pgpubsub_sql.worker.processes import WorkerOptions
from pgpubsub_sql.worker.shutdown import Shutdown
from pgpubsub_sql.worker.supervisor import Supervisor
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import backends, listeners_wait, numbers, waiting

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


class Page:
    """An endpoint in this process, whose metrics take as long as the test likes."""

    def __init__(self, endpoint: health.Endpoint, shutdown: Shutdown) -> None:
        self.ended = threading.Event()
        self.slow = Slow(self._make)
        self._endpoint, self._shutdown = endpoint, shutdown
        self._address = endpoint._listener.getsockname()

    def _make(self) -> Answer:
        assert self.ended.wait(30)
        return HTTPStatus.OK, Text(b"up 1\n", "text/plain")

    def step(self) -> None:
        self._endpoint.wait(self._shutdown, 0.01, {"/livez": alive, "/metrics": self.slow})

    def ask(self, path: str) -> socket.socket:
        client = socket.create_connection(self._address)
        client.setblocking(False)
        client.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        return client

    def answer(self, client: socket.socket) -> str:
        """Return what *client* receives until it is hung up on."""
        received = b""
        while True:
            self.step()
            try:
                data = client.recv(4096)
            except BlockingIOError:
                continue
            received += data
            if not data:
                client.close()
                return received.decode()


@pytest.fixture
def page() -> Iterator[Page]:
    with Shutdown() as shutdown, health.Endpoint("127.0.0.1", 0) as endpoint:
        page = Page(endpoint, shutdown)
        yield page
        page.ended.set()


def test_who_waits_for_metrics_holds_up_nobody(page: Page) -> None:
    waits = page.ask("/metrics")
    assert "200 OK" in page.answer(page.ask("/livez"))
    eventually(lambda: page.step() or page._endpoint._slow)
    with page.slow.silent() as is_silent:
        assert not is_silent
    page.ended.set()
    assert page.answer(waits).endswith(
        "Content-Length: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\nup 1\n"
    )
    with page.slow.silent() as is_silent:
        assert is_silent


def test_those_who_are_too_many_are_told(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_SLOW", 1)
    waits = page.ask("/metrics")
    eventually(lambda: page.step() or page._endpoint._slow)
    assert "503 Service Unavailable" in page.answer(page.ask("/metrics"))
    page.ended.set()
    assert "200 OK" in page.answer(waits)


def test_an_error_is_logged_and_answered(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(page.slow, "_make", lambda: 1 / 0)
    assert "500 Internal Server Error" in page.answer(page.ask("/metrics"))
    assert "ZeroDivisionError" in caplog.text


def test_without_the_extra_it_says_what_to_install() -> None:
    supervisor = Supervisor(WorkerOptions(channels=()), processes=0)
    assert supervisor._watch._answers["/metrics"]() == UNINSTALLED
    supervisor._watch.pulses.close()


def metrics(listener: Listen) -> tuple[int, str]:
    found = eventually(lambda: re.search(r"http://127.0.0.1:(\d+)/", listener.log))
    asking = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
    asking.request("GET", "/metrics")
    response = asking.getresponse()
    return response.status, response.read().decode()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_listen_tells_prometheus(listen: Start, method: str) -> None:
    """Also while its only worker is busy; and it leaves no connection open."""
    pytest.importorskip("prometheus_client")
    way = ["--worker-start-method", method, "--health-port", "0"]
    listener = listen("--channels", "app.Job", *way).ready()
    with listeners_wait():
        jobs("wait")
        eventually(waiting)
        status, text = metrics(listener)
        assert status == 200, listener.log
        assert 'pgpubsub_listening_workers{database="default"} 1.0' in text
        assert re.search(r'in_flight{channel="app.Job",database="default",.*} 1.0', text)
        eventually(lambda: not backends(""))
    eventually(lambda: numbers("do_job") == [1])
    assert listener.stop() == 0
