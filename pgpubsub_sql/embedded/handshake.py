"""Whether a server answers, asked without a driver."""

from __future__ import annotations

import contextlib
import socket
import struct


def answers(path: str, user: str, dbname: str) -> bool:
    """Open a session and end it properly: only a ready server grants one.

    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
    """
    names = f"user\0{user}\0database\0{dbname}\0\0".encode()
    start_up = struct.pack("!ii", 8 + len(names), 3 << 16) + names
    ready, terminate = b"Z\0\0\0\5I", b"X\0\0\0\4"
    received = b""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        connection.sendall(start_up)
        while not received.endswith(ready) and (chunk := connection.recv(4096)):
            received += chunk
        connection.sendall(terminate)
    return received.endswith(ready)
