"""Health checks over HTTP, answered between two steps of somebody's loop."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias

from pgpubsub_sql.worker.forks import held, in_forks
from pgpubsub_sql.worker.shutdown import Shutdown

logger = logging.getLogger("pgpubsub_sql.supervisor")

CLIENT_SECONDS = 2.0
"""A client that has not sent its request within this time is hung up on."""
MAX_CLIENTS = 32
"""As many clients are heard at a time; others wait to be accepted."""
MAX_REQUEST = 8192
"""Bytes of the longest request."""
REST_SECONDS = 1.0
"""Nobody is accepted for so long after that was impossible, as for want of file descriptors."""

MAX_SLOW = 4
"""As many slow answers are given at a time."""
SLOW_SECONDS = 10.0
"""A client that does not take a slow answer within this time is hung up on."""


class Text(NamedTuple):
    """What is not JSON."""

    content: bytes
    type: str


Answer: TypeAlias = tuple[HTTPStatus, dict[str, Any] | Text]


UNINSTALLED: Answer = (
    HTTPStatus.NOT_IMPLEMENTED,
    {"error": "For metrics, run: pip install 'pgpubsub-sql[prometheus]'"},
)
BUSY: Answer = (HTTPStatus.SERVICE_UNAVAILABLE, {"error": "Too many ask at a time."})


class Slow:
    """An answer that *make* makes, which may take a while: a thread waits for it."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._talking = threading.Lock()

    def __call__(self) -> Answer:
        """Return the answer; one thread makes it at a time."""
        with self._talking:
            try:
                return self._make()
            except Exception:
                logger.exception("An answer could not be made")
                error = {"error": "The answer could not be made. The log says why."}
                return HTTPStatus.INTERNAL_SERVER_ERROR, error

    def silent(self) -> AbstractContextManager[bool]:
        """Keep threads from making it; yield whether none is. Only then may this process fork."""
        return held(self._talking)


Answers: TypeAlias = dict[str, Callable[[], Answer]]
"""What to answer by the path that is asked for."""


def wait(shutdown: Shutdown, seconds: float, answers: Answers, endpoint: Endpoint | None) -> None:
    """Wait up to so many seconds as *shutdown* does; answer who asks the *endpoint*, if any."""
    if endpoint is None:
        shutdown.wait(timeout=seconds)
    else:
        endpoint.wait(shutdown, seconds, answers)


def alive() -> Answer:
    """Answer that the loop turns, which this answer shows."""
    return HTTPStatus.OK, {"alive": True}


def not_ready(reason: str) -> Answer:
    """Answer that there is no worker to ask, and why."""
    return HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reason": reason}


class Endpoint:
    """Answers health checks at *host* and *port*; a context manager.

    Whoever has a loop waits with :meth:`wait`, which nobody can hold up. Processes that are forked
    meanwhile do not keep the port.

    Raises :class:`OSError` if it cannot listen there.
    """

    def __init__(self, host: str, port: int) -> None:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self._listener = socket.create_server((host, port), family=family)
        self._listener.setblocking(False)
        self._clients: dict[socket.socket, _Client] = {}
        self._rests_until = 0.0
        self._slow: list[threading.Thread] = []

    def __enter__(self) -> Endpoint:
        self._stack = ExitStack()
        self._stack.callback(self._close)
        self._stack.enter_context(in_forks(self._close))
        host, port, *_ = self._listener.getsockname()
        shown = f"[{host}]" if ":" in host else host
        logger.info(
            "Health checks are answered at http://%s:%s/livez, /readyz and /metrics", shown, port
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def wait(self, shutdown: Shutdown, seconds: float, answers: Answers) -> None:
        """Wait up to so many seconds as *shutdown* does; answer who asks meanwhile."""
        ends = [client.until for client in self._clients.values()]
        seconds = max(0.0, min([time.monotonic() + seconds, *ends]) - time.monotonic())
        for one in shutdown.wait(self._files(), seconds):
            if one is self._listener:
                self._accept()
            else:
                self._read(one, answers)
        now = time.monotonic()
        for sock in [sock for sock, client in self._clients.items() if client.until <= now]:
            self._hang_up(sock)

    def _files(self) -> list[socket.socket]:
        is_full = len(self._clients) >= MAX_CLIENTS or time.monotonic() < self._rests_until
        return [*self._clients] if is_full else [self._listener, *self._clients]

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has gone meanwhile
            return
        except OSError as error:
            logger.warning("A health check cannot be answered: %s", error)
            self._rests_until = time.monotonic() + REST_SECONDS
            return
        sock.setblocking(False)
        self._clients[sock] = _Client()

    def _read(self, sock: socket.socket, answers: Answers) -> None:
        client = self._clients[sock]
        try:
            data = sock.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:  # it has gone
            data = b""
        client.request += data
        if client.is_complete and self._is_left_to_thread(sock, client.request, answers):
            return
        if client.is_complete:
            is_slow = isinstance(answers.get(_path(client.request)), Slow)
            answer = BUSY if is_slow else _answer(client.request, answers)
            with suppress(OSError):  # it has gone, or reads nothing
                sock.send(_response(client.request, answer))
        if not data or client.is_complete or len(client.request) > MAX_REQUEST:
            self._hang_up(sock)

    def _is_left_to_thread(self, sock: socket.socket, request: bytes, answers: Answers) -> bool:
        """Have a thread answer if that may take a while; return whether it does."""
        self._slow = [one for one in self._slow if one.is_alive()]
        slow = answers.get(_path(request))
        if not isinstance(slow, Slow) or len(self._slow) >= MAX_SLOW:
            return False
        del self._clients[sock]
        thread = threading.Thread(
            target=_answer_slowly,
            args=(sock, request, answers),
            name="pgpubsub_answer",
            daemon=True,
        )
        self._slow.append(thread)
        thread.start()
        return True

    def _hang_up(self, sock: socket.socket) -> None:
        del self._clients[sock]
        sock.close()

    def _close(self) -> None:
        for sock in (self._listener, *self._clients):
            sock.close()
        self._clients.clear()


@dataclasses.dataclass
class _Client:
    """Somebody who is connected and has not been answered."""

    request: bytes = b""
    until: float = dataclasses.field(default_factory=lambda: time.monotonic() + CLIENT_SECONDS)

    @property
    def is_complete(self) -> bool:
        """Whether all headers have come."""
        return b"\r\n\r\n" in self.request or b"\n\n" in self.request


def _answer_slowly(sock: socket.socket, request: bytes, answers: Answers) -> None:
    with sock, suppress(OSError):  # it has gone
        sock.settimeout(SLOW_SECONDS)
        sock.sendall(_response(request, _answer(request, answers)))


def _path(request: bytes) -> str:
    """Return the path that is asked for."""
    _, _, rest = _first_line(request).partition(" ")
    return rest.partition(" ")[0].partition("?")[0]


def _first_line(request: bytes) -> str:
    return request.partition(b"\n")[0].decode("latin-1")


def _answer(request: bytes, answers: Answers) -> Answer:
    path = _path(request)
    if not _first_line(request).startswith(("GET ", "HEAD ")):
        return HTTPStatus.METHOD_NOT_ALLOWED, {"error": "Ask with GET."}
    if path not in answers:
        return HTTPStatus.NOT_FOUND, {"error": f"Ask for {' or '.join(answers)}."}
    return answers[path]()


def _response(request: bytes, answer: Answer) -> bytes:
    """Return the response to a request of HTTP/1."""
    status, content = answer
    if not isinstance(content, Text):
        content = Text(json.dumps(content).encode() + b"\n", "application/json")
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content.type}\r\n"
        f"Content-Length: {len(content.content)}\r\nCache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    body = b"" if request.startswith(b"HEAD ") else content.content
    return head.encode() + body
