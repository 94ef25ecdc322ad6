"""A network between workers and server that can fall silent: TCP on loopback, forwarded.

Where sockets have filters (Linux), a silent connection acknowledges nothing either, so that
keepalives are in vain, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

RESET = struct.pack("ii", 1, 0)
"""Of SO_LINGER: a close() that sends RST."""

ATTACH_FILTER, DETACH_FILTER = 26, 27
"""Linux's SO_ATTACH_FILTER and SO_DETACH_FILTER, which Python does not name."""
_KEEP_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
FILTER = struct.pack("HP", 1, ctypes.addressof(_KEEP_NOTHING))
"""One instruction: return 0, the number of bytes to keep of a packet."""
CONNECTIONS = Path("/proc/net/tcp")
ESTABLISHED = "01"


class Network:
    """Forwards connections to the server's Unix socket; a context manager.

    While it is silent, nothing arrives on either side, the end of a connection included.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._links: set[_Link] = set()
        self._is_silent = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._listening = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def environment(self) -> dict[str, str]:
        """Return the variables with which a client of libpq connects through it."""
        host, port = self._listening.sockets[0].getsockname()
        return {"PGHOST": host, "PGPORT": str(port)}

    def fall_silent(self) -> None:
        """Forward nothing any more, for new connections either."""
        self._do(self._fall_silent)

    def silence_some(self, chance: random.Random) -> None:
        """Forward nothing any more of some of the connections."""
        for link in self._alive():
            if chance.random() < 0.5:
                self._do(link.silence)

    def recover(self) -> None:
        """Forward again, what was held back first."""
        self._do(self._recover)

    def cut(self) -> None:
        """Reset the connections that are silent. The server learns of it when it recovers."""
        self._do(self._cut)

    def lose_one(self, chance: random.Random) -> None:
        """Let one connection be silent for good. The server is told; its client has to notice."""
        if links := self._alive():
            self._do(chance.choice(links).lose)

    def longest_unnoticed(self) -> float:
        """Return for how many seconds a client has held a connection that is silent for good."""
        times = [link.lost_at for link in set(self._links) if link.lost_at is not None]
        return time.monotonic() - min(times) if times else 0.0

    def _alive(self) -> list[_Link]:
        return [link for link in set(self._links) if link.is_alive]

    def _do(self, function: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(function)

    def _fall_silent(self) -> None:
        self._is_silent = True
        drop_all(self._listening.sockets[0])
        for link in self._links:
            link.silence()

    def _recover(self) -> None:
        self._is_silent = False
        drop_nothing(self._listening.sockets[0])
        for link in self._links:
            link.recover()

    def _cut(self) -> None:
        for link in self._links:
            if link.is_silent:
                link.reset()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(reader, writer)
        self._links.add(link)
        if self._is_silent:
            link.silence()
        try:
            await link.carry(self._server)
        finally:
            self._links.discard(link)

    async def _close(self) -> None:
        self._recover()
        self._listening.close()
        for link in self._links:
            link.reset()
        while self._links:
            await asyncio.sleep(0.01)


class _Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost_at: float | None = None
        """When it fell silent for good."""
        self._reader = reader
        self._writer = writer
        self._server: asyncio.StreamWriter | None = None
        self._socket = writer.get_extra_info("socket")
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def is_alive(self) -> bool:
        """Whether it may still serve somebody."""
        return self.lost_at is None and self._server is not None and self._socket.fileno() >= 0

    @property
    def is_silent(self) -> bool:
        """Whether nothing arrives."""
        return not self._flows.is_set()

    async def carry(self, path: str) -> None:
        """Forward until either side is at its end, and the other can be told."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(path)
            self._server = writer
            pumps = self._pump(self._reader, writer), self._pump(reader, self._writer)
            tasks = [asyncio.ensure_future(pump) for pump in pumps]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._until_noticed()
            for task in tasks:
                task.cancel()
            writer.transport.abort()
        self._writer.transport.abort()

    def silence(self) -> None:
        """Let nothing arrive."""
        self._flows.clear()
        drop_all(self._socket)

    def recover(self) -> None:
        """Let all arrive, unless it is silent for good."""
        if self.lost_at is None:
            drop_nothing(self._socket)
            self._flows.set()

    def reset(self) -> None:
        """End it with a RST to the client."""
        self.lost_at = None
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()

    def lose(self) -> None:
        """Let nothing arrive any more, and tell the server."""
        if self._server is not None:
            self.silence()
            self.lost_at = time.monotonic()
            self._server.transport.abort()

    async def _until_noticed(self) -> None:
        while self.lost_at is not None and is_established(self._socket):
            await asyncio.sleep(0.1)
        if self.lost_at is None:
            await self._flows.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()


def drop_all(end: Any) -> None:
    """Have a socket take no packet any more: it does not even acknowledge them."""
    _set_on_linux(end, ATTACH_FILTER, FILTER)


def drop_nothing(end: Any) -> None:
    """Undo :func:`drop_all`."""
    _set_on_linux(end, DETACH_FILTER, 0)


def _set_on_linux(end: Any, option: int, value: bytes | int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it is closed already, or has no filter
            end.setsockopt(socket.SOL_SOCKET, option, value)


def is_established(end: Any) -> bool:
    """Whether the other end of a connection on loopback is still open."""
    ours, theirs = end.getsockname()[1], end.getpeername()[1]
    lines = CONNECTIONS.read_text().splitlines()[1:]
    states = {(fields[1], fields[2]): fields[3] for fields in map(str.split, lines)}
    pair = f"0100007F:{theirs:04X}", f"0100007F:{ours:04X}"
    return states.get(pair) == ESTABLISHED
