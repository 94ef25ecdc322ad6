"""Messages that were sent, as tests look at them."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

from django.db.models import Model

from pgpubsub_sql.channels import BaseChannel, TriggerChannel, select_channels
from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.listeners import Reference, field_names
from pgpubsub_sql.payloads.stored import PayloadDecoder
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.testing.lookups import MISSING, differences, show
from pgpubsub_sql.worker.decoding import DecodedMessage, decode_message

C = TypeVar("C", bound=BaseChannel, covariant=True)
D = TypeVar("D", bound=BaseChannel)

SHOWN = 20
"""Most messages that a failure lists."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Message(Generic[C]):
    """One message that was sent."""

    channel: type[C]
    """Its channel."""
    text: str
    """The payload as JSON."""
    durable: bool
    """Whether its channel stores messages."""
    subscription: str = ""
    """Whose copy was handled, or is parked; empty for listeners that name none, and for a message
    that was sent, which is one for all subscriptions."""
    key: str | None = None
    """The ordering key, as it is stored."""
    available_at: datetime.datetime | None = None
    """When it may be handled; None if it is parked, or not stored."""
    attempts: int = 0
    """Number of failed attempts to handle it."""
    error: str = ""
    """Traceback of the last failure."""
    using: str = "default"
    """Alias of the database in which it was sent."""

    @cached_property
    def payload(self) -> Any:
        """The payload, as plain JSON values: an object, unless a raw NOTIFY sent something else."""
        return json.loads(self.text, cls=PayloadDecoder)

    @property
    def fields(self) -> Mapping[str, Any]:
        """The channel's fields, as listeners get them. Raises :class:`PayloadError`."""
        return self._decoded.fields

    @property
    def op(self) -> str | None:
        """What happened to the row, such as ``INSERT``; None if no trigger sent the message."""
        return self._decoded.timed_event.partition("_")[2].upper() or None

    @property
    def when(self) -> str | None:
        """``AFTER`` or ``BEFORE``; None if no trigger sent the message."""
        return self._decoded.timed_event.partition("_")[0].upper() or None

    @property
    def old(self) -> Model | None:
        """The row as it was; None if there was none, or no trigger sent the message."""
        return self._row("old")

    @property
    def new(self) -> Model | None:
        """The row as it became; None if there is none, or no trigger sent the message."""
        return self._row("new")

    @property
    def context(self) -> Mapping[str, Any]:
        """The notification context of the sender."""
        return self._decoded.context

    def __str__(self) -> str:
        """Return one line for a failure."""
        return f"{Lane(self.channel.postgres_name(), self.subscription)} {self._values()}"

    def differences(self, lookups: Mapping[str, Any]) -> list[str]:
        """Return what differs from *lookups*, in words; nothing if all of them hold."""
        try:
            return differences(self._value, lookups)
        except PayloadError as error:
            return [brief(error)]

    @cached_property
    def _decoded(self) -> DecodedMessage:
        return decode_message(self.channel, self.text, using=self.using)

    def _row(self, side: str) -> Model | None:
        return self.fields.get(side) if issubclass(self.channel, TriggerChannel) else None

    def _value(self, name: str) -> Any:
        """Return a field of the channel, or else an attribute of the message."""
        if name in field_names(self.channel):
            return self.fields[name]
        return getattr(self, name) if name in ATTRIBUTES else MISSING

    def _values(self) -> str:
        try:
            fields = {name: self.fields[name] for name in field_names(self.channel)}
        except PayloadError:
            return brief(self.text)
        timed_event = f"{self.when} {self.op} ".removeprefix("AFTER ") if self.op else ""
        return timed_event + ", ".join(f"{name}={show(value)}" for name, value in fields.items())


SENT_ATTRIBUTES = frozenset(
    {"attempts", "available_at", "context", "durable", "error", "key", "op", "payload", "when"}
)
"""What lookups for messages that were sent may name besides the channel's fields."""
ATTRIBUTES = SENT_ATTRIBUTES | {"subscription"}
"""What lookups for other messages may name."""


class Sent(Sequence[Message[C]]):
    """Messages in the order in which they were sent.

    While they are captured, it grows, and shrinks if a savepoint is undone.
    """

    def __init__(
        self, read: Callable[[], Sequence[Message[C]]], strays: Callable[[], Iterable[str]] = list
    ) -> None:
        self._read = read
        self._strays = strays

    @overload
    def __getitem__(self, index: int) -> Message[C]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message[C]]: ...
    def __getitem__(self, index: int | slice) -> Message[C] | Sequence[Message[C]]:
        return self._read()[index]

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"<Sent:{self.listing({})}>"

    def of(self, channel: type[D]) -> Sequence[Message[D]]:
        """Return the messages of *channel*; a base class stands for its subclasses."""
        found: Any = of_channel(self, channel)
        return list(found)

    def listing(self, lookups: Mapping[str, Any], of: Sequence[Message[C]] = ()) -> str:
        """Return a list for failures: each message, and what of it differs from *lookups*.

        Only those in *of* are compared.
        """
        messages = list(self)
        lines = [
            line
            for number, one in enumerate(messages[:SHOWN], 1)
            for line in (
                f"  {number}. {one}",
                *(f"       {found}" for found in (one.differences(lookups) if one in of else ())),
            )
        ]
        if len(messages) > SHOWN:
            lines.append(f"  … and {len(messages) - SHOWN} more")
        lines += [f"  (undeclared) {stray}" for stray in self._strays()]
        return "\n" + "\n".join(lines or ["  nothing"])


def of_channel(messages: Iterable[Message[Any]], channel: Reference) -> list[Message[Any]]:
    """Return the messages of *channel*; a base class stands for its subclasses."""
    found = list(messages)
    chosen = select_channels([channel], {one.channel for one in found})
    return [one for one in found if one.channel in chosen]
