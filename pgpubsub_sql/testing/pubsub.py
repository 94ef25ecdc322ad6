"""The test kit's one object: the fixture ``pubsub``, and ``self.pubsub`` of the mixin."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from pgpubsub_sql.channels import BaseChannel, declared_channels, select_channels
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.ignoring import ignore
from pgpubsub_sql.listeners import Reference, registry
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.testing.assertions import Assertions
from pgpubsub_sql.testing.captures import Capture
from pgpubsub_sql.testing.draining import Drain
from pgpubsub_sql.testing.handling import Call, Failing, Handled, fields_of, find_listener
from pgpubsub_sql.testing.live import LiveWorker, worker_processes, worker_thread
from pgpubsub_sql.testing.performing import made_payload
from pgpubsub_sql.testing.taps import ask
from pgpubsub_sql.transaction_settings import connection_of


class PubSub(Assertions):
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

    def drain(
        self,
        *channels: Reference,
        using: str | None = None,
        subscription: str | None = None,
        waiting: bool = False,
        at: datetime.datetime | None = None,
        raise_errors: bool = True,
        limit: int = 1000,
    ) -> Handled:
        """Have messages of these channels, or of all, handled as a worker does; return which.

        ::

            handled = pubsub.drain(AuthorChannel)
            assert [message.error for message in handled] == [None]

        These are stored messages that are ready, captured ones, and what their listeners send, up
        to *limit* messages. With a *subscription*, only its copies are handled; ``""`` stands for
        listeners without one. With *waiting*, time passes until nothing waits any longer for a
        delay or its next attempt. With *at*, it is that time meanwhile; what is left waits as
        before. (An absolute time that a listener gives to ``notify(at=…)`` is then off by the
        difference.)

        Raises the first error of a listener, of decoding, or of a callback of ``on_commit()``, once
        its batch is put back as in production; unless *raise_errors* is False.
        Raises :class:`ChannelNotFound`, and :class:`ValueError` for both *waiting* and *at*, and
        for a subscription that no listener of these channels names.
        """
        if waiting and at is not None:
            raise ValueError("Give either waiting=True, which lets all time pass, or at=….")
        drain = self._drain(
            select_channels(channels, declared_channels()) if channels else registry.channels(),
            using=using,
            subscription=subscription,
            limit=limit,
            raises=raise_errors,
        )
        with drain.open(), drain.at(at):
            drain.run(waiting=waiting)
        return drain.handled

    async def adrain(
        self,
        *channels: Reference,
        using: str | None = None,
        subscription: str | None = None,
        waiting: bool = False,
        at: datetime.datetime | None = None,
        raise_errors: bool = True,
        limit: int = 1000,
    ) -> Handled:
        """Do what :meth:`drain` does, from a coroutine."""
        return await sync_to_async(self.drain)(
            *channels,
            using=using,
            subscription=subscription,
            waiting=waiting,
            at=at,
            raise_errors=raise_errors,
            limit=limit,
        )

    def perform(
        self,
        listener: Callable[..., Any],
        messages: Iterable[Any] | None = None,
        /,
        *,
        op: str | None = None,
        context: Mapping[str, Any] | None = None,
        using: str | None = None,
        **fields: Any,
    ) -> None:
        """Have one listener handle a message with these fields, which nobody sends.

        ::

            pubsub.perform(welcome, new=Author(name="Bo"))

        The values travel as they would: a row as an instance, of which what does not travel is
        deferred. An instance without a primary key gets -1. *op*, such as ``UPDATE``, is inferred
        from *old* and *new*. What the listener gives to ``on_commit()`` runs.

        A batch listener gets a list with this message, or *messages*: instances of the channel or,
        for rows, of :class:`Change`.

        Raises what the listener raises, :class:`LookupError` if it is none, and
        :class:`PayloadError` for fields that do not fit, or an event that it does not listen to.
        """
        found = find_listener(listener)
        channel = found.find_channel()
        alias = connection_of(using).alias
        if messages is not None and (fields or op or not found.is_batch):
            raise TypeError(
                "perform() takes either fields or, for a batch listener, a list of messages."
            )
        listed = [{"op": op, **fields}]
        if messages is not None:
            listed = [{"op": None} | fields_of(channel, one) for one in messages]
        payloads = [
            made_payload(found, channel, one, op=one.pop("op"), context=context or {}, using=alias)
            for one in listed
        ]
        drain = self._drain(
            [channel],
            using=alias,
            subscription=found.subscription,
            limit=1,
            raises=True,
            only=found,
        )
        with drain.open():
            drain.perform(Lane(channel.postgres_name(), found.subscription), payloads)

    @contextmanager
    def failing(
        self,
        listener: Callable[..., Any],
        *,
        times: int | None = None,
        error: BaseException | None = None,
    ) -> Iterator[list[Call]]:
        """Have a listener fail instead of being called, the next few *times* or always.

        ::

            with pubsub.failing(welcome, times=2, error=SMTPServerDisconnected()) as calls:
                pubsub.drain(waiting=True, raise_errors=False)
            assert len(calls) == 2

        Gives the calls that failed. Raises :class:`LookupError` if it is not a listener.
        """
        failing = Failing(find_listener(listener), times, error)
        with self._record.failing(failing):
            yield failing.calls

    @contextmanager
    def muted(self, *channels: Reference, using: str | None = None) -> Iterator[None]:
        """Send nothing on these channels, or on any, in the block: for fixtures.

        ::

            with cls.pubsub.muted():
                cls.author = AuthorFactory()

        Triggers are silenced as by :func:`pgpubsub_sql.ignore`. What is sent all the same, by
        ``notify()`` or by triggers that cannot be ignored, is discarded at the end.
        """
        alias = connection_of(using).alias
        chosen = select_channels(channels, declared_channels()) if channels else None
        silent: list[Any] = [one for one in chosen or () if getattr(one, "ignorable", False)]
        with ExitStack() as stack:
            tap = self._captures.tap(alias)
            stack.enter_context(tap.open())
            ((after,),) = ask(alias, "next_position")
            if silent or chosen is None:
                stack.enter_context(ignore(*silent, using=alias))
            yield
            self._discard(chosen, alias, after)

    def discard(self, *channels: Reference, using: str | None = None) -> int:
        """Delete messages of these channels, or of all, unhandled; return their number.

        Use it after fixtures, which fire triggers.
        """
        chosen = select_channels(channels, declared_channels()) if channels else None
        return self._discard(chosen, connection_of(using).alias, 0)

    @contextmanager
    def live_worker(
        self, *channels: Reference, using: str | None = None, processes: int = 0
    ) -> Iterator[LiveWorker]:
        """Run a worker of these channels, or of all, beside the block, in tests that commit.

        ::

            class LiveTest(PubSubTestMixin, TransactionTestCase):
                def test_welcome(self):
                    with self.pubsub.live_worker():
                        Author.objects.create(name="Zoë")
                        self.assertHandled(welcome, within=5)

        It runs in a thread, where :meth:`assert_handled` and :meth:`failing` see its calls; or in
        so many *processes*, whose calls only show in what they write. It listens before the block
        begins, and ends after it.

        Raises :class:`NotReady` inside a transaction, of which a worker would see nothing.
        """
        alias = connection_of(using).alias
        if connections[alias].in_atomic_block:
            raise NotReady(
                "A live worker sees only what is committed. Use TransactionTestCase, or "
                "django_db(transaction=True); or drain(), which works inside a transaction."
            )
        chosen = select_channels(channels, declared_channels()) if channels else registry.channels()
        if processes:
            running = worker_processes(chosen, using=alias, processes=processes)
        else:
            running = worker_thread(chosen, using=alias, record=self._record)
        with running as live:
            yield live

    def _drain(
        self, channels: Sequence[type[BaseChannel]], *, using: str | None, **options: Any
    ) -> Drain:
        alias = connection_of(using).alias
        return Drain(channels, using=alias, captures=self._captures, record=self._record, **options)

    def _discard(self, channels: Sequence[type[BaseChannel]] | None, using: str, after: int) -> int:
        """Delete what was sent after a position; return its number."""
        names = None if channels is None else [one.postgres_name() for one in channels]
        tap = self._captures.tap(using)
        captured = [row for row in tap.heard(after) if names is None or row.name in names]
        tap.forget(captured)
        deleted = ask(using, "delete_stored", after=after, channels=names)
        return len(captured) + len({position for (position,) in deleted})
