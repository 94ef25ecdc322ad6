"""nats-py's client, which reads and writes the headers of a message at a fraction of the cost.

nats-py examines every character of every name and value. The two methods here are private to it, so
``pyproject.toml`` admits no minor version of it that these were not tested with.
"""

from __future__ import annotations

import string
from typing import Any

from nats import errors
from nats.aio.client import Client as NatsClient

__all__ = ["Client", "errors"]

_FIRST_LINE = b"NATS/1.0\r\n"
_SPACE = string.whitespace
"""What ``bytes.strip()`` strips; ``str.strip()`` strips more."""


class Client(NatsClient):
    """A connection to one of the servers."""

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        """Return the headers of a message that has arrived."""
        if not headers or not headers.startswith(_FIRST_LINE):  # none, or a status
            return await super()._process_headers(headers)
        lines = headers[len(_FIRST_LINE) :].decode(errors="surrogateescape").split("\r\n")
        parts = [line.partition(":") for line in lines]
        return {name.strip(_SPACE): value.strip(_SPACE) for name, colon, value in parts if colon}

    async def _send_publish(
        self,
        subject: str,
        reply: str,
        payload: bytes,
        payload_size: int,
        headers: dict[str, Any] | None,
    ) -> None:
        """Send a message, whose headers are whole lines."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in (headers or {}).items()])
        if not headers or lines.count("\n") != len(headers):
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        head = _FIRST_LINE + lines.encode() + b"\r\n"
        sizes = f"{len(head)} {len(head) + payload_size}"
        command = f"HPUB {subject} {reply} {sizes}\r\n".encode()
        await self._send_command(b"".join((command, head, payload, b"\r\n")))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()
