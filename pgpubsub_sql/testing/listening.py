"""Listening: hears what is sent by transactions that are committed, in any thread or process."""

from __future__ import annotations

import select
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.errors import NotReady, PayloadError
from pgpubsub_sql.testing.taps import Place, Row, ask
from pgpubsub_sql.worker.decoding import decode_headers, without_envelope
from pgpubsub_sql.worker.doorbell import Doorbell, Notify

SENTINEL_SECONDS = 10.0
"""Longest time for a NOTIFY to arrive."""


class ListeningTap:
    """Hears what is sent to the database *using*, on a connection of its own.

    It executes no DDL, so that nothing is left of it if the test dies.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._users = 0
        """Number of blocks in which it is open."""
        self._rows: list[Row] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hear what is sent in the block."""
        if not self._users:
            self._sentinel = f"pgpubsub_sql.{uuid.uuid4().hex}"
            names = [channel.postgres_name() for channel in declared_channels()]
            self._doorbell = Doorbell([*names, self._sentinel], using=self._using, name="test")
            self._doorbell.open()
        self._users += 1
        try:
            yield
            self._listen()
        finally:
            self._users -= 1
            if not self._users:
                self._doorbell.close()

    def heard(self, after: int) -> list[Row]:
        """Return what was sent after a position and not forgotten, in order."""
        if self._users:
            self._listen()
        return [row for row in self._rows if row.place.position > after]

    def forget(self, rows: Sequence[Row]) -> None:
        """Forget messages that were handled or discarded."""
        self._rows = [row for row in self._rows if row not in rows]

    def restore(self) -> None:
        """Do nothing: it changes nothing in the database."""

    def _listen(self) -> None:
        """Hear all that was committed so far: the server delivers in the order of commits."""
        ((position,),) = ask(self._using, "next_position")
        ask(self._using, "ring", channels=[self._sentinel])
        notifies = [one for one in self._until_sentinel() if one.payload]
        for number, notify in enumerate(notifies):
            raw = not notify.payload.startswith('{"$sig"')
            self._rows.append(
                Row(
                    place=Place(position, number),
                    name=notify.channel,
                    text=self._whole(notify.payload),
                    stored=False,
                    raw=raw,
                )
            )

    def _until_sentinel(self) -> Iterator[Notify]:
        deadline = time.monotonic() + SENTINEL_SECONDS
        while True:
            notifies = self._doorbell.notifies()
            yield from (one for one in notifies if one.channel != self._sentinel)
            if any(one.channel == self._sentinel for one in notifies):
                return
            if not select.select([self._doorbell], [], [], max(0.0, deadline - time.monotonic()))[
                0
            ]:
                raise NotReady(
                    f"No NOTIFY arrives from the database {self._using!r}, on which the test "
                    "listens: a pooler in between keeps it."
                )

    def _whole(self, payload: str) -> str:
        """Return a payload as it was sent: the long one that it refers to, without envelope."""
        try:
            reference = decode_headers(payload).ref
        except PayloadError:
            return payload
        if reference is not None:
            rows = ask(self._using, "referred_payload", id=reference)
            payload = rows[0][0] if rows else payload
        return without_envelope(payload)
