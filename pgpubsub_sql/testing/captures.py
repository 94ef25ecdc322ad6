"""Capturing: what a block of a test sends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from pgpubsub_sql.channels import BaseChannel, declared_channels
from pgpubsub_sql.django_internals import count_callbacks
from pgpubsub_sql.errors import brief
from pgpubsub_sql.testing.callbacks import run_callbacks
from pgpubsub_sql.testing.listening import ListeningTap
from pgpubsub_sql.testing.messages import Message, Sent
from pgpubsub_sql.testing.taps import (
    Place,
    Row,
    Tap,
    TransactionTap,
    ask,
    hearing_pg_notify,
    stored,
)
from pgpubsub_sql.worker.attempts import moment


class Captures:
    """All captures of one test."""

    def __init__(self) -> None:
        self._open: list[Capture] = []
        self._last: Capture | None = None
        self._taps: dict[tuple[str, type[Tap]], Tap] = {}

    def current(self) -> Capture | None:
        """Return the innermost open capture, or else the last one."""
        return self._open[-1] if self._open else self._last

    def tap(self, using: str) -> Tap:
        """Return what hears the ephemeral messages of a database."""
        kind = TransactionTap if connections[using].in_atomic_block else ListeningTap
        return self._taps.setdefault((using, kind), kind(using))

    def keep(self, using: str) -> None:
        """Let what is about to be handled count as sent, even when it is found no longer."""
        for capture in self._open:
            if capture.using == using:
                capture.keep()

    def opened(self, capture: Capture) -> None:
        """Note that a capture has begun."""
        self._open.append(capture)

    def closed(self, capture: Capture) -> None:
        """Note that a capture has ended."""
        self._open.remove(capture)
        self._last = capture


class Capture:
    """Captures what its block sends: ``with`` or ``async with`` gives a :class:`Sent`.

    Messages of all channels are captured unless *only* some are wanted.
    """

    def __init__(
        self,
        captures: Captures,
        *,
        using: str,
        only: Iterable[type[BaseChannel]] | None,
        on_commit: bool,
        raw: bool,
    ) -> None:
        self.using = using
        self.sent: Sent[BaseChannel] = Sent(self._messages, self._strays)
        self._captures = captures
        self._only = None if only is None else [one.postgres_name() for one in only]
        self._on_commit = on_commit
        self._raw = raw
        self._after = 0
        self._is_open = False
        self._kept: dict[Place, Row] = {}
        """Messages that count even if they are found no longer, because they were handled.

        A message is sent once, however many subscriptions have a copy.
        """
        self._decoded: dict[Place, Message[BaseChannel]] = {}

    def __enter__(self) -> Sent[BaseChannel]:
        self._stack = ExitStack()
        with self._stack:
            self._tap = self._captures.tap(self.using)
            self._stack.enter_context(self._tap.open())
            if self._raw and connections[self.using].in_atomic_block:
                self._stack.enter_context(hearing_pg_notify(self.using))
            self._tap.heard(0)
            ((self._after,),) = ask(self.using, "next_position")
            self._first = count_callbacks(connections[self.using])
            self._is_open = True
            self._captures.opened(self)
            self._stack = self._stack.pop_all()
        return self.sent

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            try:
                if error is None:
                    self._end()
            finally:
                self._is_open = False
                self._captures.closed(self)

    async def __aenter__(self) -> Sent[BaseChannel]:
        return await sync_to_async(self.__enter__)()

    async def __aexit__(self, *error: Any) -> None:
        await sync_to_async(self.__exit__)(*error)

    def keep(self) -> None:
        """Let the messages so far count even if they are found no longer, as they are handled."""
        if self._is_open:
            self._kept = {row.place: row for row in self._rows()}

    def _end(self) -> None:
        if self._on_commit:
            run_callbacks(connections[self.using], self._first)
        self.keep()

    def _rows(self) -> list[Row]:
        rows = dict(self._kept)
        if self._is_open:
            found = [*stored(self.using, self._after), *self._tap.heard(self._after)]
            rows |= {row.place: replace(row, subscription="") for row in reversed(found)}
        return [
            row for _, row in sorted(rows.items()) if self._only is None or row.name in self._only
        ]

    def _messages(self) -> Sequence[Message[BaseChannel]]:
        channels = {one.postgres_name(): one for one in declared_channels()}
        rows = [row for row in self._rows() if row.name in channels]
        for row in rows:
            if row.place not in self._decoded:
                self._decoded[row.place] = message(row, channels[row.name], self.using)
        return [self._decoded[row.place] for row in rows]

    def _strays(self) -> list[str]:
        names = {one.postgres_name() for one in declared_channels()}
        return [f"{row.name} {brief(row.text)}" for row in self._rows() if row.name not in names]


def message(row: Row, channel: type[BaseChannel], using: str) -> Message[Any]:
    """Return a message of *channel* as tests look at it."""
    when = row.available_at
    return Message(
        channel=channel,
        text=row.text,
        durable=channel.lock_notifications,
        subscription=row.subscription,
        key=row.key,
        available_at=None if when is None else moment(when, connections[using]),
        attempts=row.attempts,
        error=row.error,
        using=using,
    )
