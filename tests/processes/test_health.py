"""Health: what is answered, who hangs, and what becomes of those who do."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pgpubsub_sql.worker import health, watch
from pgpubsub_sql.worker.health import Endpoint, alive, not_ready
from pgpubsub_sql.worker.pulse import Pulse
from pgpubsub_sql.worker.shutdown import Shutdown
from pgpubsub_sql.worker.watch import Watch
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, numbers, sql, waiting
from tests.processes.support import workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]
Logs = pytest.LogCaptureFixture

ANSWERS = {"/livez": alive, "/readyz": lambda: not_ready("The database is awaited.")}


class Asked:
    """An endpoint in this process, which takes a step only while somebody here waits for it."""

    def __init__(self, endpoint: Endpoint, shutdown: Shutdown) -> None:
        self.endpoint, self._shutdown = endpoint, shutdown
        self.port = endpoint._listener.getsockname()[1]

    def connect(self, text: str = "") -> socket.socket:
        """Connect, and send that much of a request."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setblocking(False)
        client.sendall(text.encode())
        return client

    def response(self, client: socket.socket) -> str:
        """Return what *client* receives until it is hung up on."""
        received = b""
        while True:
            self.endpoint.wait(self._shutdown, 0.01, ANSWERS)
            try:
                data = client.recv(4096)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                return received.decode()
            received += data

    def ask(self, request: str) -> tuple[int, str]:
        """Return status and body of the response to a request's first line."""
        with self.connect(f"{request} HTTP/1.1\r\nHost: us\r\n\r\n") as client:
            head, _, body = self.response(client).partition("\r\n\r\n")
        return int(head.split()[1]), body


@pytest.fixture
def asked() -> Iterator[Asked]:
    with Shutdown() as shutdown, Endpoint("127.0.0.1", 0) as endpoint:
        yield Asked(endpoint, shutdown)


def test_health_checks_are_answered(asked: Asked) -> None:
    assert asked.ask("GET /livez") == (200, '{"alive": true}\n')
    assert asked.ask("GET /livez?verbose") == (200, '{"alive": true}\n')
    waits = {"ready": False, "reason": "The database is awaited."}
    assert asked.ask("GET /readyz") == (503, json.dumps(waits) + "\n")
    assert asked.ask("HEAD /readyz") == (503, "")
    status, body = asked.ask("GET /healthz")
    assert (status, json.loads(body)) == (404, {"error": "Ask for /livez or /readyz."})
    assert asked.ask("POST /livez")[0] == 405
    assert asked.ask("\0")[0] == 405


def test_a_request_may_come_in_pieces(asked: Asked) -> None:
    with asked.connect("GET /livez HT") as client:
        assert asked.ask("GET /livez")[0] == 200
        client.sendall(b"TP/1.0\r\n\r\n")
        assert '{"alive": true}' in asked.response(client)


def test_who_is_silent_or_talks_too_much_is_hung_up_on(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither holds up the others."""
    with asked.connect("x" * 9000) as client:
        assert asked.response(client) == ""
    monkeypatch.setattr(health, "CLIENT_SECONDS", 0.0)
    with asked.connect("GET") as client:
        assert asked.response(client) == ""


def test_who_is_one_too_many_waits(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_CLIENTS", 1)
    with asked.connect("GET /li") as first, asked.connect("GET /livez HTTP/1.1\r\n\r\n") as second:
        for _ in range(5):
            asked.endpoint.wait(asked._shutdown, 0.0, ANSWERS)
        assert len(asked.endpoint._clients) == 1
        first.close()
        assert '{"alive": true}' in asked.response(second)


def test_want_of_file_descriptors_is_waited_out(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, caplog: Logs
) -> None:
    class Full(socket.socket):
        def accept(self) -> Any:
            raise OSError("Too many open files")

    listener = asked.endpoint._listener
    monkeypatch.setattr(asked.endpoint, "_listener", Full(fileno=os.dup(listener.fileno())))
    with asked.connect("GET /livez HTTP/1.1\r\n\r\n") as client:
        eventually(lambda: asked.endpoint.wait(asked._shutdown, 0.01, ANSWERS) or caplog.text)
        assert "cannot be answered: Too many open files" in caplog.text
        assert asked.endpoint._files() == []
        asked.endpoint._listener.close()
        monkeypatch.setattr(asked.endpoint, "_listener", listener)
        asked.endpoint._rests_until = 0.0
        assert '{"alive": true}' in asked.response(client)


def test_other_processes_do_not_keep_the_port(asked: Asked) -> None:
    """A child of a listener may outlive the supervisor, whose successor needs the port."""
    with asked.connect():
        eventually(lambda: asked.endpoint.wait(asked._shutdown, 0.01, ANSWERS) or _files(asked))
        assert not any(os.get_inheritable(one.fileno()) for one in _files(asked))
        files = _files(asked)
        if (child := os.fork()) == 0:
            os._exit(any(one.fileno() != -1 for one in files))
        assert os.waitpid(child, 0)[1] == 0
        assert asked.ask("GET /livez")[0] == 200


def _files(asked: Asked) -> list[socket.socket]:
    files = asked.endpoint._files()
    return files if len(files) == 2 else []


def test_a_port_that_is_taken_is_a_clear_error(asked: Asked) -> None:
    with pytest.raises(CommandError, match=rf"port {asked.port}: .*Choose another --health-port"):
        call_command("listen", "--health-port", str(asked.port), skip_checks=True)


def test_ipv6_is_shown_as_in_an_address(caplog: Logs) -> None:
    try:
        endpoint = Endpoint("::1", 0)
    except OSError:
        pytest.skip("This machine has no IPv6")
    with caplog.at_level("INFO", logger="pgpubsub_sql.supervisor"), endpoint:
        assert re.search(r"answered at http://\[::1\]:\d+/livez, /readyz and /metrics", caplog.text)


# --- Who hangs


class Watched(Watch):
    """A watch over two workers in this process."""

    def __init__(self) -> None:
        super().__init__(2, ("app.Job", "app.Step"))
        self.pulse, self.other = (Pulse.shared(self.pulses.fd, number) for number in range(2))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(watch, "SURE_SECONDS", 0.0)
    with Watched() as watched:
        yield watched


def test_ready_means_that_every_worker_listens(watched: Watched) -> None:
    watched.other.listens(True)
    assert watched._ready() == not_ready(
        "Not every worker listens: worker 0 is not running, or starts."
    )
    watched.pulse.working()
    assert "worker 0 connects" in watched._ready()[1]["reason"]
    watched.pulse.listens(True)
    for change in (watched.pulse.idle, lambda: watched.pulse.handling(1, 5.0)):
        change()
        assert watched._ready() == (HTTPStatus.OK, {"ready": True})
    watched.forget(1)
    assert "worker 1 is not running" in watched._ready()[1]["reason"]
    watched.other.listens(True)
    watched.stop()
    assert watched._ready() == not_ready("The workers are being stopped.")


def test_who_handles_beyond_the_timeout_is_killed_once_that_is_sure(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.0)
    watched.pulse.handling(1, 0.0)
    watched.pulse.message[0] = 7
    assert watched.why_kill(0) == ""
    found = watched.why_kill(0)
    assert re.fullmatch(
        r"has been handling message 7 of channel app.Step for \d s, and .* not end that", found
    )
    watched.pulse.handling(1, 0.0)  # the next batch
    assert watched.why_kill(0) == ""
    watched.pulse.working()
    assert [watched.why_kill(0) for _ in range(2)] == ["", ""]


@pytest.mark.parametrize("limit", [60.0, float("inf")])
def test_who_is_within_the_timeout_or_has_none_is_left_alone(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.0)
    watched.pulse.handling(0, limit)
    assert [watched.why_kill(0) for _ in range(2)] == ["", ""]


def test_who_gives_no_sign_of_life_is_killed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.pulse.idle()
    assert [watched.why_kill(0) for _ in range(2)] == ["", ""]
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.0)
    assert watched.why_kill(0) == ""
    assert "no sign of life" in watched.why_kill(0)
    watched.forget(0)
    assert [watched.why_kill(0) for _ in range(2)] == ["", ""]


def test_one_look_is_not_enough(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a machine wakes up, everything seems to have taken long."""
    monkeypatch.setattr(watch, "SURE_SECONDS", 60.0)
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.0)
    watched.pulse.idle()
    assert [watched.why_kill(0) for _ in range(3)] == ["", "", ""]


def test_a_hang_without_a_timeout_is_logged_less_and_less_often(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: Logs
) -> None:
    watched.pulse.handling(0, float("inf"))
    watched.why_kill(0)
    assert not caplog.text
    began = watched.pulses.read(0).since
    after = dict.fromkeys((299, 301, 302, 599, 601, 1199, 1201), 0)
    for seconds in after:
        monkeypatch.setattr(watch.time, "monotonic", lambda now=began + seconds: now)
        caplog.clear()
        watched.why_kill(0)
        after[seconds] = len(caplog.records)
    assert after == {299: 0, 301: 1, 302: 0, 599: 0, 601: 1, 1199: 0, 1201: 1}
    assert "Worker 0 has been handling a message of channel app.Job for 1201 s. If" in caplog.text


def test_a_query_that_hangs_is_logged(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: Logs
) -> None:
    watched.pulse.working()
    monkeypatch.setattr(watch, "REPORT_SECONDS", 0.0)
    assert [watched.why_kill(0) for _ in range(2)] == ["", ""]
    assert "Worker 0 has been waiting for the server for 0 s" in caplog.text


# --- Processes


def checks(listener: Listen, path: str) -> tuple[int, dict[str, Any]]:
    """Ask a running ``listen``."""
    found = eventually(lambda: re.search(r"http://127.0.0.1:(\d+)/", listener.log))
    asking = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
    asking.request("GET", path)
    response = asking.getresponse()
    return response.status, json.loads(response.read())


def test_a_database_that_is_not_migrated_is_awaited(listen: Start) -> None:
    """An outage at the start would else restart the container again and again."""
    sql("ALTER TABLE pgpubsub_sql_notification RENAME TO not_yet")
    try:
        listener = listen("--channels", "app.Job", "--health-port", "0")
        eventually(lambda: "Run: python manage.py migrate" in listener.log)
        assert checks(listener, "/livez") == (200, {"alive": True})
        reason = "The database is awaited."
        assert checks(listener, "/readyz") == (503, {"ready": False, "reason": reason})
    finally:
        sql("ALTER TABLE not_yet RENAME TO pgpubsub_sql_notification")
    listener.ready()
    assert checks(listener, "/readyz") == (200, {"ready": True})
    assert listener.log.count("Worker 0 started") == 1


@pytest.mark.parametrize("way", [["--worker"], []])
def test_a_server_that_is_down_is_awaited_until_it_is_told_to_stop(
    listen: Start, way: list[str]
) -> None:
    listener = listen("--skip-checks", *way, PGHOST="/nowhere")
    eventually(lambda: "trying again in" in listener.log)
    assert "Cannot listen: The database 'default' cannot be reached. Start its" in listener.log
    assert listener.stop() == 0
    assert "Traceback" not in listener.log


def test_health_follows_the_workers(listen: Start) -> None:
    listener = listen("--channels", "app.Job", "--health-port", "0", "--processes", "2").ready(2)
    eventually(lambda: checks(listener, "/readyz") == (200, {"ready": True}))
    os.kill(workers(listener)[0], signal.SIGSTOP)
    assert checks(listener, "/readyz")[0] == 200  # it is idle, and not for long
    os.kill(workers(listener)[0], signal.SIGKILL)
    eventually(lambda: listener.log.count("Listening to") == 3)
    assert checks(listener, "/readyz")[0] == 200
    with listeners_wait():
        jobs("wait")
        eventually(waiting)
        listener.process.send_signal(signal.SIGTERM)
        stopping = {"ready": False, "reason": "The workers are being stopped."}
        eventually(lambda: checks(listener, "/readyz") == (503, stopping))
        assert checks(listener, "/livez")[0] == 200
    assert listener.process.wait(30) == 0


HASTY = """
import sys
import django

django.setup()
from django.core.management import execute_from_command_line
from pgpubsub_sql.worker import watch
from tests.app.channels import Job

Job.timeout, watch.GRACE_SECONDS, watch.SURE_SECONDS = 0.1, 0.1, 0.1
execute_from_command_line(sys.argv)
"""


def test_a_worker_that_no_timeout_can_interrupt_is_killed_and_replaced(listen: Start) -> None:
    """C code that keeps Python's lock keeps the timeout from coming, too."""
    command = [sys.executable, "-c", HASTY, "listen"]
    arguments = ["--worker-start-method", "fork", "--channels", "app.Job", "--health-port", "0"]
    listener = listen(*arguments, command=command).ready()
    jobs("freeze", "good")
    eventually(lambda: listener.log.count("Listening to") > 1)
    assert "Worker 0 has been handling message " in listener.log
    assert "and its timeout did not end that. It is killed.\n" in listener.log
    assert "died with exit code -9 (SIGKILL); its successor" in listener.log
    eventually(lambda: 2 in numbers("do_job"))
    assert checks(listener, "/livez")[0] == 200
