"""What a parent and its keeper tell each other."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import Literal

Mode = Literal["fast", "immediate"]

# An order is one byte: start the server again afterwards?, and how to stop it.
ORDERS: dict[bytes, tuple[bool, Mode]] = {
    b"r": (True, "fast"),
    b"R": (True, "immediate"),
    b"s": (False, "fast"),
    b"S": (False, "immediate"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What the parent tells its keeper."""

    bin_dir: str
    data_dir: str | None
    host: str
    """The socket's directory of an earlier start, or empty."""
    temporary: str
    port: int
    user: str
    settings: dict[str, str]
    start_timeout: float
    shutdown_timeout: float
    parent: int


def report(**report: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody is left to read it
        os.write(1, json.dumps(report).encode() + b"\n")
