"""The test kit for classes derived from Django's ``TestCase``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pgpubsub_sql.listeners import Reference
from pgpubsub_sql.testing.messages import Message
from pgpubsub_sql.testing.pubsub import PubSub


class _Kit:
    """Gives each test its own kit, once it asks for it."""

    def __get__(self, test: object | None, owner: type) -> PubSub:
        if test is None:
            return PubSub()
        kit: PubSub = vars(test).setdefault("_pubsub", PubSub())
        return kit


class PubSubTestMixin:
    """Gives a test :attr:`pubsub`, and assertions in the spelling of ``unittest``.

    ::

        class AuthorTest(PubSubTestMixin, TestCase):
            def test_an_author_is_announced(self):
                with self.pubsub.capture():
                    Author.objects.create(name="Zoë")
                self.assertSent(AuthorChannel, new__name="Zoë")
    """

    pubsub = _Kit()
    """The :class:`PubSub` of this test. ``cls.pubsub`` is one for ``setUpTestData()``."""

    def assertSent(  # noqa: N802
        self,
        channel: Reference,
        /,
        *,
        count: int | None = None,
        within: float = 0,
        match: Mapping[str, Any] | None = None,
        **lookups: Any,
    ) -> Message[Any]:
        """See :meth:`PubSub.assert_sent`."""
        return self.pubsub.assert_sent(channel, count=count, within=within, match=match, **lookups)

    def assertHandled(  # noqa: N802
        self,
        listener: Callable[..., Any],
        /,
        *,
        count: int | None = None,
        within: float = 0,
        match: Mapping[str, Any] | None = None,
        **lookups: Any,
    ) -> None:
        """See :meth:`PubSub.assert_handled`."""
        self.pubsub.assert_handled(listener, count=count, within=within, match=match, **lookups)

    def assertNotHandled(  # noqa: N802
        self,
        listener: Callable[..., Any],
        /,
        *,
        match: Mapping[str, Any] | None = None,
        **lookups: Any,
    ) -> None:
        """See :meth:`PubSub.assert_not_handled`."""
        self.pubsub.assert_not_handled(listener, match=match, **lookups)

    def assertParked(  # noqa: N802
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
        """See :meth:`PubSub.assert_parked`."""
        return self.pubsub.assert_parked(
            channel, count=count, within=within, using=using, match=match, **lookups
        )

    def assertNotSent(  # noqa: N802
        self, channel: Reference, /, *, match: Mapping[str, Any] | None = None, **lookups: Any
    ) -> None:
        """See :meth:`PubSub.assert_not_sent`."""
        self.pubsub.assert_not_sent(channel, match=match, **lookups)
