"""Where a receiver stands in a stream, and whether the stream still continues there."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pgpubsub_sql.errors import StreamBroken
from pgpubsub_sql.relay.consumer import Incoming, MessagesSkipped
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.publishing import CLOSED

LONGEST_ID = 200
"""Most characters of a message's id that are kept as they are: an index has to hold them."""

HOW_TO_ACCEPT = (
    "Have the messages that are missing published again, if you need them. Then run: python "
    "manage.py pgpubsub relay --accept '{stream}'. It reads all that the stream still holds; what "
    "was received before is not handled again."
)


def identity(message: Incoming) -> str | None:
    """Return the id of *message* as it is stored: its digest if it is long or not printable."""
    given = message.message_id
    if given is None or (len(given) <= LONGEST_ID and given.isascii() and given.isprintable()):
        return given
    return "sha256:" + hashlib.sha256(given.encode(errors="surrogateescape")).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamPosition:
    """The last message of a stream that has been stored here."""

    created: str
    """When the stream was made, as the broker writes it."""
    sequence: int
    """Its number; 0 for none."""
    message_id: str | None
    """Its id; None if it had none, or there is none."""

    @classmethod
    def before_all(cls, info: Mapping[str, Any]) -> StreamPosition:
        """Return the position before everything that a stream holds."""
        return cls(created=info["created"], sequence=_first(info) - 1, message_id=None)

    def after(self, messages: Iterable[Incoming]) -> StreamPosition:
        """Return the position once *messages* are stored."""
        *_, last = messages
        return dataclasses.replace(self, sequence=last.sequence, message_id=identity(last))

    def check(self, stream: Stream, info: Mapping[str, Any]) -> None:
        """Raise :class:`StreamBroken` if the broker's *info* says that *stream* is another now."""
        first, last = _first(info), int(info["state"]["last_seq"])
        if info["created"] != self.created:
            raise broken(
                stream,
                f"was made anew at {info['created']}: the one that was read until now, made at "
                f"{self.created}, is gone, with all that it still held",
            )
        if last < self.sequence:
            raise broken(
                stream,
                f"ends at {last}, but {self.sequence} was received: the broker has lost messages, "
                "as after a restore of an older store",
            )
        if first > self.sequence + 1:
            raise broken(
                stream,
                f"begins at {first}, but only {self.sequence} was received: {first - 1} and those "
                "before have expired unread",
            )

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended here, because there is a newer generation."""
        return self.message_id == CLOSED

    def is_held(self, info: Mapping[str, Any]) -> bool:
        """Whether the stream still holds the message at this position, by which it is known."""
        return self.message_id is not None and _first(info) <= self.sequence


class Continuity:
    """Checks what one consumer delivers against the position that it was opened at."""

    def __init__(self, stream: Stream, position: StreamPosition, *, is_held: bool) -> None:
        self._stream, self._position = stream, position
        self.awaits_known = is_held
        """Whether the message at the position is still to come, by which the stream is known."""
        self._last = position.sequence
        self.is_closed = False
        """Whether the last message has come, which says that there is a newer generation."""
        self.skipped = ""
        """What the consumer has skipped, in words; empty if nothing."""
        self.start = position.sequence if is_held else position.sequence + 1
        """Sequence from which the consumer has to deliver."""

    def next(self, messages: list[Incoming]) -> list[Incoming]:
        """Return those of *messages* that follow the last one without a gap.

        If there is a gap, :attr:`skipped` says so, and the consumer must be replaced. Raises
        :class:`MessagesSkipped` if it began too late, and :class:`StreamBroken` if the message at
        the position is another than it was.
        """
        if self.awaits_known:
            self._check_known(messages[0])
            self.awaits_known = False
        return list(self._follow(messages))

    def _follow(self, messages: list[Incoming]) -> Iterator[Incoming]:
        """Yield one after the other: a consumer that was made anew may repeat, or skip."""
        for message in messages:
            if message.sequence > self._last + 1:
                self.skipped = f"it went on with {message.sequence} after {self._last}"
                return
            if message.sequence == self._last + 1:
                self._last += 1
                yield message
                if message.message_id == CLOSED:
                    self.is_closed = True
                    return

    def _check_known(self, first: Incoming) -> None:
        position = self._position
        if first.sequence != position.sequence:
            raise MessagesSkipped(f"it began at {first.sequence}, not at {position.sequence}")
        if identity(first) != position.message_id:
            raise broken(
                self._stream,
                f"has the message {identity(first)} at {first.sequence}, where "
                f"{position.message_id} was received: the broker was rolled back, and what it has "
                "taken since then has the numbers of messages that are gone",
            )


def broken(stream: Stream, what: str) -> StreamBroken:
    """Return the error that says *what* is wrong with *stream*, and what to do."""
    return StreamBroken(f"The stream {stream} {what}. {HOW_TO_ACCEPT.format(stream=stream)}")


def _first(info: Mapping[str, Any]) -> int:
    """Return the number of the first message that the stream holds, or will hold."""
    state = info["state"]
    return int(state["first_seq"] if state["messages"] else state["last_seq"] + 1)
