"""The test kit's one object: the fixture ``pubsub``, and ``self.pubsub`` of the mixin."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from pgpubsub_sql.channels import BaseChannel, declared_channels, find_channel, select_channels
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.listeners import Reference, field_names
from pgpubsub_sql.testing.captures import Capture, Captures
from pgpubsub_sql.testing.lookups import show
from pgpubsub_sql.testing.messages import ATTRIBUTES, Message, Sent, of_channel
from pgpubsub_sql.transaction_settings import connection_of

T = TypeVar("T")

PATIENCE_SECONDS = 0.01
"""Time between two looks for what is to happen *within* some time."""


class PubSub:
    """What tests do with messages: capture them, have them handled, and assert what happened.

    ::

        def test_welcome(self):
            with self.pubsub.capture():
                Author.objects.create(name="Zoë")
            self.pubsub.assert_sent(AuthorChannel, op="INSERT", new__name="Zoë")

    It works inside the transaction of Django's ``TestCase``, which is never committed.
    A channel is named by its class, its module path or its name in PostgreSQL; a base class stands
    for its subclasses. *using* is the alias of a database; by default the one to which routers
    send notifications.
    """

    def __init__(self) -> None:
        self._captures = Captures()

    # --- What is sent

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

    def capture(
        self,
        *channels: Reference,
        using: str | None = None,
        on_commit: bool = False,
        raw: bool = False,
    ) -> Capture:
        """Capture what the block sends on these channels, or on all.

        ::

            with pubsub.capture(on_commit=True) as sent:
                sign_up("Zoë")
            assert [message.op for message in sent.of(AuthorChannel)] == ["INSERT"]

        It may be ``async with``, too. With *on_commit*, what the block gave to
        ``transaction.on_commit()`` runs at its end, and what that sends is captured. With *raw*, so
        is what the tested code sends by ``SELECT pg_notify(…)`` itself.

        Raises :class:`ChannelNotFound`, and :class:`NotReady` if the database does not permit it.
        """
        return Capture(
            self._captures,
            using=connection_of(using).alias,
            only=select_channels(channels, declared_channels()) if channels else None,
            on_commit=on_commit,
            raw=raw,
        )

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
        wanted = _checked(channel, {**(match or {}), **lookups})
        found = _wait(
            within,
            lambda: _matching(self.sent, channel, wanted),
            lambda found: _is_enough(len(found), count),
        )
        if not _is_enough(len(found), count):
            self._fail_sent(channel, wanted, "some" if count is None else str(count), found)
        return found[0]

    def assert_not_sent(
        self, channel: Reference, /, *, match: Mapping[str, Any] | None = None, **lookups: Any
    ) -> None:
        """Assert that :attr:`sent` has no such message of *channel*."""
        wanted = _checked(channel, {**(match or {}), **lookups})
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


def _checked(channel: Reference, lookups: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *lookups*. Raises :class:`TypeError` for one that no message of *channel* has."""
    names = {*ATTRIBUTES}
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
