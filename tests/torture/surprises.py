"""What workers have logged that no calamity explains."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

EXPLAINED = re.compile(
    r"Notification \d+ of channel \S+( \(\S+\))? failed and (will be|waits|is parked)"
    r"|Notifications of channel .* were in flight in a transaction that was rolled back"
    r"|A message on channel torture.LiveRows failed; it will not be retried"
    r"|Refused messages that came by NOTIFY on |Stored raw NOTIFYs on "
    r"|Code that was called (for channel \S+|between two batches) left "
    r"(autocommit off|an atomic block)"
    r"|A batch of channel \S+( \(\S+\))? was rolled back"
    r"|The batch listener \S+ failed for \d+ messages"
    r"|No call of a batch listener of channel \S+ has succeeded"
    r"|The LISTEN connection is lost"
    r"|Nothing is stored on channel torture.Changing for "
    r"|torture.Changing stores messages for .*, which no listener declares"
    r"|Worker \d+ died with exit code (-9|7)\b"
)
"""Warnings and errors, and what their tracebacks say is what listeners were told to do."""
LOST = re.compile(
    r"Stored messages of channel \S+( \(\S+\))? cannot be handled now: "
    r"|Asking when stored messages are due failed: "
    r"|Filling subscriptions with what was sent before they were registered failed: "
    r"|Deleting what is old, or testing LISTEN, failed: |Signatures cannot be checked: "
    r"|What takes long cannot be shown: (?!.*(GRANT|migrate|pooler))"
    r"|Counters cannot be written: .*(timeout|terminating|closed|starting up|recovery)"
    r"|Cannot vacuum the table of messages: .*(timeout|terminating|closed|starting up|recovery)"
    r"|Cannot store raw NOTIFYs on |.* trying again in [\d.]+ seconds$"
)
"""Warnings that the server has gone. A traceback says that it has not."""

SAID_BY_LIBPQ = "FATAL:  terminating connection due to administrator command"
"""It says so on stderr if that ends a connection which the driver has only just opened."""

CALLBACK = re.compile(r"A callback given to transaction.on_commit\(\) by a listener of .* failed")
CUT_OFF = re.compile(r"^django\.db\.utils\.(OperationalError|InterfaceError): ", re.MULTILINE)
"""A callback that queries fails with the server, and is not called again."""


def surprises(logs: Iterable[str]) -> list[str]:
    """Return lines that should not be there, each kind of them once."""
    found = (line for log in logs for line in _surprises(log))
    return list({re.sub(r"\d+", "N", line): line for line in found}.values())


def _surprises(log: str) -> Iterator[str]:
    for line in log.splitlines():
        try:
            is_strange = not _is_explained(json.loads(line))
        except ValueError:
            is_strange = line != SAID_BY_LIBPQ
        if is_strange:
            yield line


def _is_explained(record: dict[str, Any]) -> bool:
    message = record["message"].replace("\n", " ")
    is_lost = LOST.match(message) and "exception" not in record
    is_cut_off = CALLBACK.match(message) and CUT_OFF.search(record.get("exception", ""))
    return bool(record["level"] == "info" or EXPLAINED.match(message) or is_lost or is_cut_off)
