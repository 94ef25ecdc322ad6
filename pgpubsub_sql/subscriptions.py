"""Subscriptions: each receives every message of a durable channel by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")


class Lane(NamedTuple):
    """A subscription of a channel: what is claimed, retried, parked and paused by itself."""

    channel: str
    """Name of the channel in PostgreSQL."""
    subscription: str = ""
    """Its name; empty for listeners without one."""

    def __str__(self) -> str:
        return f"{self.channel} ({self.subscription})" if self.subscription else self.channel


class Filled(NamedTuple):
    """A subscription that begins with the history, and how far it is filled with it.

    In the column order of the query ``filling``.
    """

    channel: str
    subscription: str
    filled_to: int
    """Number of the message up to which it has all."""
    fill_until: int | None
    """Number of the last message that it is to get; None while that is not known."""
    fill_xid: str
    """Id of the transaction that has registered it."""
    is_paused: bool
    """Whether nobody takes what it is filled with."""

    @property
    def lane(self) -> Lane:
        """The subscription."""
        return Lane(self.channel, self.subscription)

    def __str__(self) -> str:
        """Return a sentence about it."""
        what = f"{self.lane} is being filled with what was sent before it was registered"
        if self.fill_until is None:
            return f"{what}, once transactions have ended that may still store without it."
        if self.filled_to < 0:
            return f"{what}: nothing yet, of what is stored up to number {self.fill_until:,}."
        return f"{what}: up to number {self.filled_to:,} of {self.fill_until:,}."


def columns(lanes: Iterable[Lane]) -> dict[str, list[str]]:
    """Return the parameters of a query about *lanes*."""
    listed = list(lanes)
    return {
        "channels": [lane.channel for lane in listed],
        "subscriptions": [lane.subscription for lane in listed],
    }


def check_name(name: str, of: str) -> None:
    """Raise :class:`ValueError` if *name* cannot be that of a subscription.

    *of* says in words whose name it is.
    """
    if not isinstance(name, str) or (name and not _NAME.fullmatch(name)):
        raise ValueError(
            f"{of} cannot have the subscription {name!r}: a name has up to 63 of the characters "
            "A-Z, a-z, 0-9, '_', '.' and '-'."
        )
