"""A proxy in front of the tests' server: TCP on one side, its Unix socket on the other."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from types import TracebackType
from typing import Any

FAREWELL = b"X\x00\x00\x00\x04"
"""What a client says before it closes. The server does not answer."""


class Proxy:
    """Forwards what is sent to it; a context manager. Can cease to, without a word.

    It counts the round trips of connections that are used one after another.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._upstream = f"{os.environ['PGHOST']}/.s.PGSQL.{os.environ['PGPORT']}"
        self._server = socket.create_server((host, 0))
        self.host, self.port = self._server.getsockname()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self.round_trips = 0
        """How often a client has sent something after the server had its say."""
        self._clients: set[socket.socket] = set()
        self._last: socket.socket | None = None
        """Who sent last."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._flowing.set()
        self._thread.join()
        for each in [self._server, *self._pairs]:
            each.close()

    def environment(self) -> dict[str, str]:
        """What leads libpq here."""
        return {"PGHOST": self.host, "PGPORT": str(self.port)}

    def freeze(self) -> None:
        """Forward nothing more; connections stay, and the system goes on acknowledging."""
        self._flowing.clear()

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(0.05):
                self._flowing.wait()
                if key.fileobj is self._server or key.fileobj in self._pairs:
                    self._serve(key.fileobj)

    def _serve(self, sock: Any) -> None:
        if sock is self._server:
            client, server = sock.accept()[0], socket.socket(socket.AF_UNIX)
            server.connect(self._upstream)
            self._clients.add(client)
            for one, other in ((client, server), (server, client)):
                self._pairs[one] = other
                self._selector.register(one, selectors.EVENT_READ)
            return
        with contextlib.suppress(OSError):
            if data := sock.recv(65536):
                if data != FAREWELL:
                    self.round_trips += sock in self._clients and sock is not self._last
                self._last = sock
                self._pairs[sock].sendall(data)
                return
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        for each in (sock, self._pairs[sock]):  # type: socket.socket
            self._selector.unregister(each)
            self._clients.discard(each)
            del self._pairs[each]
            each.close()
