"""Assertions about what was sent, what was handled, and what is parked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from typing import Any, NoReturn, TypeVar

from pgpubsub_sql.channels import BaseChannel, declared_channels, find_channel, select_channels
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.listeners import Reference, field_names
from pgpubsub_sql.testing.captures import Captures, message
from pgpubsub_sql.testing.handling import Call, Record, find_listener
from pgpubsub_sql.testing.lookups import show
from pgpubsub_sql.testing.messages import (
    ATTRIBUTES,
    SENT_ATTRIBUTES,
    Message,
    Sent,
    of_channel,
)
from pgpubsub_sql.testing.taps import stored
from pgpubsub_sql.transaction_settings import connection_of

T = TypeVar("T")

PATIENCE_SECONDS = 0.01
"""Time between two looks for what is to happen *within* some time."""


class Assertions:
    """What a test may assert; each failure lists what there is instead."""

    def __init__(self) -> None:
        self._captures = Captures()
        self._record = Record()

    @property
    def sent(self) -> Sent[BaseChannel]:
        """What the innermost open capture has captured, or else the last one.

        Raises :class:`AssertionError` if nothing was captured yet.
        """
        if (capture := self._captures.current()) is None:
            raise AssertionError(
                "Nothing was captured. Put what sends into: with pubsub.capture(): …"
            )
        return capture.sent

    def assert_sent(
        self,
        channel: Reference,
        /,
        *,
        count: int | None = None,
        within: float = 0,
        match: Mapping[str, Any] | None = None,
        **lookups: Any,
    ) -> Message[Any]:
        """Assert that :attr:`sent` has *count* messages of *channel*, or some; return the first.

        ::

            pubsub.assert_sent(AuthorChannel, op="INSERT", new__name__startswith="Z", count=1)

        Lookups name fields of the channel, or attributes of :class:`Message`, and end like those
        of query sets: ``__contains``, ``__in``, ``__isnull``, ``__gt`` and so on. A value may be a
        function that says whether it is right. Fields named ``count``, ``within`` or ``match`` go
        into *match*. If necessary, it waits up to *within* seconds.

        Raises :class:`AssertionError`, and :class:`TypeError` for a field that the channel lacks.
        """
        wanted = _checked(channel, {**(match or {}), **lookups}, SENT_ATTRIBUTES)
        found = _wait(
            within,
            lambda: _matching(self.sent, channel, wanted),
            lambda found: _is_enough(len(found), count),
        )
        if not _is_enough(len(found), count):
            self._fail_sent(channel, wanted, "some" if count is None else str(count), found)
        return found[0]

    def assert_handled(
        self,
        listener: Callable[..., Any],
        /,
        *,
        count: int | None = None,
        within: float = 0,
        match: Mapping[str, Any] | None = None,
        **lookups: Any,
    ) -> None:
        """Assert that a listener has handled *count* messages in this test, or some.

        ::

            pubsub.assert_handled(welcome, new__name="Zoë", count=1)

        Lookups name arguments of the listener. A message that failed was not handled.

        Raises :class:`AssertionError`, and :class:`LookupError` if it is not a listener.
        """
        wanted = {**(match or {}), **lookups}
        found = _wait(
            within,
            lambda: self._calls(listener, wanted),
            lambda found: _is_enough(len(found), count),
        )
        if not _is_enough(len(found), count):
            self._fail_handled(listener, wanted, "some" if count is None else str(count), found)

    def assert_not_handled(
        self,
        listener: Callable[..., Any],
        /,
        *,
        match: Mapping[str, Any] | None = None,
        **lookups: Any,
    ) -> None:
        """Assert that a listener has handled no such message in this test."""
        wanted = {**(match or {}), **lookups}
        if found := self._calls(listener, wanted):
            self._fail_handled(listener, wanted, "no", found)

    def assert_parked(
        self,
        channel: Reference,
        /,
        *,
        count: int | None = None,
        within: float = 0,
        using: str | None = None,
        match: Mapping[str, Any] | None = None,
        **lookups: Any,
    ) -> Message[Any]:
        """Assert that *count* messages of *channel* are parked, or some; return the first.

        ::

            pubsub.assert_parked(AuthorChannel, error__contains="SMTP", attempts=10)

        Lookups are those of :meth:`assert_sent`, and *subscription*. Each subscription parks its
        own copy of a message.
        """
        wanted, alias = _checked(channel, {**(match or {}), **lookups}), connection_of(using).alias
        parked = _wait(
            within,
            lambda: _parked(alias),
            lambda parked: _is_enough(len(_matching(parked, channel, wanted)), count),
        )
        found = _matching(parked, channel, wanted)
        if not _is_enough(len(found), count):
            of = [] if found else of_channel(parked, channel)
            raise AssertionError(
                f"Expected {'some' if count is None else count} parked messages of "
                f"{_name(channel)}{_with(wanted)}, and found {len(found)}. What is parked:"
                f"{parked.listing(wanted, of)}"
            )
        return found[0]

    def assert_not_sent(
        self, channel: Reference, /, *, match: Mapping[str, Any] | None = None, **lookups: Any
    ) -> None:
        """Assert that :attr:`sent` has no such message of *channel*."""
        wanted = _checked(channel, {**(match or {}), **lookups}, SENT_ATTRIBUTES)
        if found := _matching(self.sent, channel, wanted):
            self._fail_sent(channel, wanted, "no", found)

    def _fail_sent(
        self, channel: Reference, lookups: Mapping[str, Any], wanted: str, found: list[Message[Any]]
    ) -> NoReturn:
        of = [] if found else of_channel(self.sent, channel)
        raise AssertionError(
            f"Expected {wanted} messages of {_name(channel)}{_with(lookups)}, and found "
            f"{len(found)}. What was sent:{self.sent.listing(lookups, of)}"
        )

    def _fail_handled(
        self,
        listener: Callable[..., Any],
        lookups: Mapping[str, Any],
        wanted: str,
        found: list[Call],
    ) -> NoReturn:
        path, lines = find_listener(listener).path, []
        for number, one in enumerate(self._record.handled, 1):
            lines.append(f"  {number}. {one}")
            for call in one.calls:
                lines.append(f"       {call}")
                if call.listener.path == path and not found:
                    lines += [f"         {found}" for found in call.differences(lookups)]
        raise AssertionError(
            f"Expected {wanted} messages to be handled by {path}{_with(lookups)}, and found "
            f"{len(found)}. What was handled:\n" + "\n".join(lines or ["  nothing"])
        )

    def _calls(self, listener: Callable[..., Any], lookups: Mapping[str, Any]) -> list[Call]:
        identity = find_listener(listener).identity
        return [
            call
            for one in self._record.handled
            if one.succeeded
            for call in one.calls
            if call.listener.identity == identity and not call.differences(lookups)
        ]


def _parked(using: str) -> Sent[Any]:
    channels = {one.postgres_name(): one for one in declared_channels()}
    found = [
        message(row, channels[row.name], using)
        for row in stored(using)
        if row.available_at is None and row.name in channels
    ]
    return Sent(lambda: found)


def _wait(within: float, look: Callable[[], T], is_enough: Callable[[T], bool]) -> T:
    """Return what *look* finds once it is enough, or after *within* seconds."""
    deadline = time.monotonic() + within
    found = look()
    while not is_enough(found) and time.monotonic() < deadline:
        time.sleep(PATIENCE_SECONDS)
        found = look()
    return found


def _is_enough(found: int, count: int | None) -> bool:
    """Return whether *count* were found, or at least one. Raises :class:`ValueError` for 0."""
    if count == 0:
        raise ValueError("count=0 has assertions of its own: assert_not_sent() and the like.")
    return found > 0 if count is None else found == count


def _matching(
    messages: Sent[Any], channel: Reference, lookups: Mapping[str, Any]
) -> list[Message[Any]]:
    return [one for one in of_channel(messages, channel) if not one.differences(lookups)]


def _name(channel: Reference) -> str:
    return find_channel(channel).postgres_name()


def _with(lookups: Mapping[str, Any]) -> str:
    shown = (f"{path}={show(expected)}" for path, expected in lookups.items())
    return f" with {', '.join(shown)}" if lookups else ""


def _checked(
    channel: Reference, lookups: Mapping[str, Any], attributes: Set[str] = ATTRIBUTES
) -> Mapping[str, Any]:
    """Return *lookups*. Raises :class:`TypeError` for one that no message of *channel* has."""
    names = {*attributes}
    for one in select_channels([channel], declared_channels()):
        try:
            names.update(field_names(one))
        except PayloadError:  # a base class, which has no fields
            continue
    if unknown := [path for path in lookups if path.split("__")[0] not in names]:
        raise TypeError(
            f"Messages of {_name(channel)} have no {unknown[0].split('__')[0]!r}. They have "
            f"{', '.join(sorted(names))}."
        )
    return lookups
