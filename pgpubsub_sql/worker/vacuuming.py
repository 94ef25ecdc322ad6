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
"""How many messages a worker handles between two vacuums. These take some ten milliseconds, while
which it handles nothing."""
VACUUM_SHARE = 50
"""There is none for this many times as long as the last one took, so they take 2 % of the time."""
VACUUM_BYTES = 64_000_000
"""A table that is larger, with its indexes, is left to autovacuum, as with a large backlog: nothing
would be handled for too long."""


class Vacuum:
    """Vacuums the table of messages, if the role may: as its owner, or with MAINTAIN.

    Autovacuum looks at a database once a minute, in which a worker may leave millions of dead
    rows. Claims step over them, and the table grows by their size.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next = VACUUM_MESSAGES
        """How many messages have to be handled before the next one."""
        self._rested_at = 0.0
        """When the next one may begin, by the monotonic clock; never if the role may not."""

    def run(self, handled: int) -> None:
        """Vacuum if that is due, now that the worker has *handled* so many messages."""
        started = time.monotonic()
        if handled < self._next or started < self._rested_at:
            return
        self._next, self._rested_at = handled + VACUUM_MESSAGES, math.inf
        if is_in_atomic_block(self._session.connection):  # a test's
            return
        try:
            ((is_permitted, size),) = self._session.execute("vacuuming")
            if is_permitted and size <= VACUUM_BYTES:
                self._session.execute("vacuum")
            if is_permitted:
                ended = time.monotonic()
                self._rested_at = ended + VACUUM_SHARE * (ended - started)
        except Error as error:
            message = "Cannot vacuum the table of messages: %s; this is left to autovacuum"
            logger.warning(message, first_line(cause(self._session.using, error)))
            self._session.drop_if_broken()
