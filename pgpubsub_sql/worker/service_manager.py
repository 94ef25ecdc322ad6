"""What a service manager is told: systemd, or whoever speaks its protocol (``sd_notify``)."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger("pgpubsub_sql.supervisor")


class ServiceManager:
    """Tells the service manager that *environment* names, if any, what this process does.

    Nothing that it does blocks. What cannot be told is told the next time.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        limit = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        is_watched = bool(path) and limit.isdecimal() and is_ours
        self._beat_seconds = int(limit) / 1e6 / 3 if is_watched else math.inf
        self._beat_at = time.monotonic() if is_watched else math.inf
        self._told: set[str] = set()
        self._has_failed = False

    def patience(self) -> float:
        """Return in how many seconds :meth:`beat` has something to tell."""
        return max(0.0, self._beat_at - time.monotonic())

    def beat(self) -> None:
        """Tell that this process is alive, if it is time to."""
        if self._beat_at <= time.monotonic():
            self._beat_at = time.monotonic() + self._beat_seconds
            self._tell("WATCHDOG=1")

    def ready(self) -> None:
        """Tell once that the service has started."""
        self._tell_once("READY=1")

    def stopping(self) -> None:
        """Tell once that the service ends."""
        self._tell_once("STOPPING=1")

    def _tell_once(self, text: str) -> None:
        if self._address and text not in self._told and self._tell(text):
            self._told.add(text)

    def _tell(self, text: str) -> bool:
        """Return whether it could be told."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                message = "The service manager (NOTIFY_SOCKET) cannot be told %s: %s"
                logger.warning(message, text, error)
            self._has_failed = True
            return False
        return True
