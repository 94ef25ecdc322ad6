"""One process that listens: looks for what is stored, hears what is sent, sleeps in between."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable

from django.db import connections

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.doorbell import Doorbell, Ring
from pgpubsub_sql.worker.stopping import Stopping

logger = logging.getLogger("pgpubsub_sql.worker")

SAFETY_SECONDS = 10.0
"""Longest sleep. A ring wakes at once; this finds what no ring announces, such as what another
worker gave back by dying."""
LONGEST_BACKOFF_SECONDS = 30.0


class Worker:
    """Listens to *channels* on the database *using*, in the foreground, until it is stopped.

    In turn it *looks* (handles a batch of each channel that is due), then *hears* (waits for a
    NOTIFY, or for the next stored notification to become ready). Losing the server brings it
    into *reconnecting*: it waits ever longer, opens the doorbell again, and looks everywhere.
    """

    def __init__(self, channels: Iterable[type[BaseChannel]], *, using: str = "default") -> None:
        self.using = using
        self.stopping = Stopping()
        self.delivery = Delivery(
            channels, using=using, schema=check_ready(using), stopping=self.stopping
        )
        self.doorbell = Doorbell(self.delivery.channels, using=using)
        self._due = dict.fromkeys(self.delivery.channels)
        self._next_look = 0.0

    def run(self) -> None:
        """Listen until SIGTERM or SIGINT, or until the parent process is gone."""
        with self.stopping:
            try:
                self._connect()
                while not self.stopping():
                    self.step()
            finally:
                self.doorbell.close()

    def drain(self) -> None:
        """Handle what is stored and ready, and return. Does not hear what is sent meanwhile."""
        with self.stopping:
            names = list(self.delivery.channels)
            while names and not self.stopping():
                names = [name for name in names if self.delivery.handle_stored(name)]

    def step(self) -> None:
        """Look once, hear once."""
        try:
            self._look()
            self._hear()
        except self.doorbell.errors as error:
            logger.warning("The connection to the server is lost: %s", _first_line(error))
            self._connect()

    def _look(self) -> None:
        for name in list(self._due):
            if not self._handle_stored(name):
                self._due.pop(name, None)

    def _handle_stored(self, name: str) -> bool:
        try:
            return self.delivery.handle_stored(name)
        except Exception:  # noqa: BLE001 - a failed transaction must not end the worker
            logger.exception(
                "A batch of channel %s was rolled back and will be taken again within %g seconds.",
                name,
                SAFETY_SECONDS,
            )
            connections[self.using].close()
            return False

    def _hear(self) -> None:
        if not self._due:
            self._plan()
        timeout = 0.0 if self._due else max(0.0, self._next_look - time.monotonic())
        self.stopping.wait([self.doorbell], timeout)
        for ring in self.doorbell.rings():
            if self.stopping():
                return
            self._answer(ring)
        if time.monotonic() >= self._next_look:
            self._due = dict.fromkeys(self.delivery.channels)

    def _plan(self) -> None:
        """Decide when to look next without being rung."""
        waiting = self.delivery.next_ready().values()
        # What is ready already is in another worker's hands: we have just looked.
        soonest = min((seconds for seconds in waiting if seconds > 0), default=SAFETY_SECONDS)
        self._next_look = time.monotonic() + min(soonest, SAFETY_SECONDS)

    def _answer(self, ring: Ring) -> None:
        channel = self.delivery.channels[ring.channel]
        if ring.payload and not channel.lock_notifications:
            self.delivery.handle_sent(*ring)
            return
        if ring.payload:
            logger.error(
                "A raw NOTIFY on the durable channel %s was ignored, as its data is not stored. "
                "Send with SELECT pgpubsub_notify(channel, payload) instead.",
                ring.channel,
            )
        self._due[ring.channel] = None

    def _connect(self) -> None:
        """Open the doorbell, however long it takes, then look everywhere."""
        attempt = 0
        while not self.stopping():
            self.doorbell.close()
            connections[self.using].close()
            try:
                self.doorbell.open()
            except (*self.doorbell.errors, NotReady) as error:
                delay = min(LONGEST_BACKOFF_SECONDS, 0.1 * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311
                logger.warning("%s; trying again in %.1f seconds", _first_line(error), delay)
                self.stopping.wait(timeout=delay)
                attempt += 1
            else:
                logger.info("Listening to %s", ", ".join(self.delivery.channels))
                self._due = dict.fromkeys(self.delivery.channels)
                return


def check_ready(using: str) -> str:
    """Return the schema that *using* works in.

    Raises :class:`NotReady` if it cannot be listened to: not PostgreSQL, or not migrated.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        raise NotReady(
            f"The database {using!r} is {connection.display_name}; LISTEN and NOTIFY are "
            "PostgreSQL's. Choose another with --database."
        )
    with connection.cursor() as cursor:
        cursor.execute(query("ready_to_listen"))
        schema, migrated = cursor.fetchone()
    if not migrated:
        raise NotReady(
            f"The tables of pgpubsub_sql are missing in the database {using!r}. "
            "Run: python manage.py migrate"
        )
    return str(schema)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
