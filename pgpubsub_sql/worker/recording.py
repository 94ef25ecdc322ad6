"""Recording: writes counters into the database every few seconds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, transaction

from pgpubsub_sql import conf
from pgpubsub_sql.sql import UNDEFINED_COLUMN, UNDEFINED_TABLE, query, sqlstate
from pgpubsub_sql.worker.counters import Counters
from pgpubsub_sql.worker.doorbell import LOCK_TIMEOUT, Doorbell
from pgpubsub_sql.worker.outages import first_line
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

WRITE_SECONDS = 5.0
"""Time between two writes."""
RETRY_SECONDS = 60.0
"""Time until the next write after one that has failed."""
ROLL_UP_SECONDS = 60.0
"""Time between two attempts to move old minutes into the totals."""

_MIGRATE = "Run migrate; if it has nothing to apply, run pgpubsub install. "
_REMEDIES = {
    UNDEFINED_TABLE: _MIGRATE,
    UNDEFINED_COLUMN: _MIGRATE,
    "42501": "Run GRANT SELECT, INSERT, UPDATE, DELETE ON pgpubsub_sql_counter TO the role of the "
    "workers, as the owner of that table. ",
}
"""By SQLSTATE: no such table, no such column, no privilege."""


class Recorder:
    """Writes *counters* into the database, if ``PGPUBSUB_COUNTERS`` is on.

    What cannot be written is kept, and tried again: nothing else depends on it.
    """

    def __init__(self) -> None:
        self._is_on = conf.is_counting()
        self._write_at = 0.0
        """When to write again, by the monotonic clock."""
        self._roll_up_at = 0.0
        self._error = ""
        """Why the last write failed; empty if it did not."""

    def patience(self, counters: Counters) -> float:
        """Return for how many seconds there is nothing to write; zero or less if there is now."""
        return self._write_at - time.monotonic() if self._is_on and counters else math.inf

    def write(self, counters: Counters, doorbell: Doorbell) -> None:
        """Write *counters* by the LISTEN connection, which no listener can break; log a failure.

        Raises one of the doorbell's errors if the connection is lost.
        """
        try:
            self._write(counters, doorbell.execute)
        except doorbell.errors as error:
            if not doorbell.is_open:
                counters.clear()  # they may have been written
                raise
            self._log(error)

    def write_drained(self, counters: Counters, session: Session) -> None:
        """Write *counters* by Django's connection, as there is no other; log a failure."""
        try:
            with transaction.atomic(using=session.using):
                session.execute("set_setting", LOCK_TIMEOUT | {"local": True})
                self._write(counters, lambda text, values: session.execute("", values, text=text))
        except DatabaseError as error:
            self._log(error)
            session.drop_if_broken()

    def _write(self, counters: Counters, execute: Callable[[str, Any], object]) -> None:
        if self._is_on and counters:
            now = time.monotonic()
            self._write_at = now + WRITE_SECONDS
            execute(query("count"), counters.values())
            counters.clear()
            self._error = ""
            if self._roll_up_at <= now:
                self._roll_up_at = now + ROLL_UP_SECONDS
                execute(query("roll_up"), None)

    def _log(self, error: Exception) -> None:
        line, remedy = first_line(error), _REMEDIES.get(sqlstate(error), "")
        if line != self._error:
            message = (
                "Counters cannot be written: %s. Messages are handled all the same; counts are "
                "kept, and tried again every %g s. %sPGPUBSUB_COUNTERS = False turns them off."
            )
            logger.warning(message, line, RETRY_SECONDS, remedy)
        self._error = line
        self._write_at = time.monotonic() + RETRY_SECONDS
