"""Vacuuming: removes the rows of handled messages more often than autovacuum comes by."""

from __future__ import annotations

import logging
import math
import time

from django.db.utils import Error

from pgpubsub_sql.django_internals import is_in_atomic_block
from pgpubsub_sql.worker.outages import cause, first_line
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

VACUUM_MESSAGES = 20_000
"""How many messages a worker handles between two vacuums. One takes some ten milliseconds, during
which the worker handles nothing."""
VACUUM_SHARE = 50
"""There is none for this many times as long as the last one took, so they take 2 % of the time."""
VACUUM_BYTES = 500_000_000
"""A table that is larger, with its indexes, is left to autovacuum, as with a large backlog: nothing
would be handled for too long."""
RETRY_SECONDS = 600.0
"""Time until the next one after one that has failed."""


class Vacuum:
    """Vacuums the table of messages, if the role may.

    It may as the owner of the table or of the database, or with the privilege MAINTAIN.

    Autovacuum looks at a database once a minute, in which a worker may leave millions of dead
    rows. Claims step over them, and the table grows by their size.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next = VACUUM_MESSAGES
        """The next one is due once so many messages have been handled."""
        self._rested_at = 0.0
        """When the next one may begin, by the monotonic clock; never if the role may not."""

    def run(self, handled: int) -> None:
        """Vacuum if that is due, now that the worker has *handled* so many messages."""
        started = time.monotonic()
        if handled < self._next or started < self._rested_at:
            return
        self._next = handled + VACUUM_MESSAGES
        if is_in_atomic_block(self._session.connection):  # a test's
            return
        try:
            ((is_permitted, is_free, size),) = self._session.execute("vacuuming")
            if is_permitted and is_free and size <= VACUUM_BYTES:
                self._session.execute("vacuum")
        except Error as error:
            self._rested_at = started + RETRY_SECONDS
            message = "Cannot vacuum the table of messages: %s; this is left to autovacuum"
            logger.warning(message, first_line(cause(self._session.using, error)))
            self._session.drop_if_broken()
        else:
            ended = time.monotonic()
            rest = VACUUM_SHARE * (ended - started) if is_permitted else math.inf
            self._rested_at = ended + rest
