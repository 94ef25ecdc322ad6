"""Dispatch: calls the listeners of a channel with a decoded message."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from time import perf_counter
from typing import Any, cast

from asgiref.sync import async_to_sync

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.django_internals import is_durability_error
from pgpubsub_sql.errors import ListenerTimeout, PayloadError
from pgpubsub_sql.listeners import Listener, Select, batch_listener_of, registry
from pgpubsub_sql.worker import forks
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.counters import Tally
from pgpubsub_sql.worker.decoding import (
    Decoded,
    DecodedInstance,
    DecodedMessage,
    instance_decoder,
    message_decoder,
    message_fields,
)
from pgpubsub_sql.worker.outcomes import Undecodable, Unreadable
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.timeouts import TIMED_OUT, call_with_timeout

logger = logging.getLogger("pgpubsub_sql.worker")

Call = Callable[..., object]

UNHEARD = (
    "Discarded a message of channel %s: no listener takes the event %s. Declare one, or run "
    "makemigrations and migrate, so that the trigger no longer sends it."
)

DURABLE_HINT = (
    "A listener runs inside the transaction of its batch. Set batch_size = 1 on the channel: each "
    "message then has a transaction of its own, in which durable blocks are allowed."
)


class Dispatcher:
    """Calls the listeners of a *subscription* of *channel*, in order of registration, or its batch
    listener.

    The position of the one that is called is assigned to :attr:`calling`, as in a pulse.

    Those of an ephemeral channel are all called.
    """

    def __init__(self, channel: type[BaseChannel], subscription: str, session: Session) -> None:
        self._channel = channel
        self._session = session
        self._heard = registry.listeners_of(
            channel, subscription if channel.lock_notifications else None
        )
        self.calling = memoryview(bytearray(8)).cast("q")
        self._unheard = Tally("")
        self.tallies = [self._unheard, *(Tally(one.path) for one in self._heard)]
        """What calls add up to, until somebody settles what became of their messages."""
        self._is_notification_named = any("notification" in one.parameters for one in self._heard)
        self.batch_listener = batch_listener_of(channel, subscription)
        """What gets lists of messages; None if each message is handled by itself."""
        self.batch_tally = Tally("")
        """What calls of that add up to; who calls it counts the messages."""
        if self.batch_listener:
            self.batch_tally = Tally(self.batch_listener.path)
            self.tallies = [self._unheard, self.batch_tally]

    @property
    def listeners(self) -> int:
        """Number of listeners, which one message may all be for."""
        return len(self._heard)

    @cached_property
    def _decode(self) -> Callable[[str], DecodedMessage]:
        return message_decoder(self._channel, using=self._session.using)

    @cached_property
    def _decode_instance(self) -> Callable[[str], DecodedInstance]:
        return instance_decoder(self._channel, using=self._session.using)

    @cached_property
    def _listeners(self) -> list[tuple[frozenset[str], str, int, Call, Select, Tally | None]]:
        """Of each listener: timed events, path, position, function, what selects its arguments.

        And its tally, unless it is the only one: then :meth:`ran` is enough, which costs less.
        """
        names, paths = message_fields(self._channel), registry.paths()
        return [
            (
                one.timed_events,
                one.path,
                paths.index(one.path) + 1,
                self.caller(one),
                one.selector(names),
                tally if len(self._heard) > 1 else None,
            )
            for one, tally in zip(self._heard, self.tallies[1:], strict=True)
        ]

    def ran(self, messages: int, seconds: float) -> None:
        """Note that it was called for so many *messages*, without those that could not be read."""
        if len(self._heard) == 1 and not self.batch_listener:
            _, tally = self.tallies
            tally.messages += messages - self._unheard.messages
            tally.seconds += seconds

    @cached_property
    def _batch_call(self) -> tuple[int, Call]:
        """Position and function of the batch listener."""
        listener = cast(Listener, self.batch_listener)
        return registry.paths().index(listener.path) + 1, self.caller(listener)

    def call(self, payload: str, attempt: Attempt) -> None:
        """Decode *payload* and call the listeners of its timed event; note each in *attempt*.

        Raises :class:`Unreadable` or :class:`Undecodable` for a payload that does not fit the
        channel, and whatever a listener raises.
        """
        if self.batch_listener:
            if instance := self.read_instance(payload, attempt):
                self.batch_tally.messages += 1
                self.call_batch([(instance, attempt)])
            return
        message = _read(self._decode, payload)
        extras: dict[str, Any] = {"context": message.context}
        if self._is_notification_named:
            extras["notification"] = attempt.notification()
        generation = forks.generation
        try:
            is_heard = self._call_listeners(message, extras, attempt)
        except BaseException as error:
            _note_failure(error, generation)
            raise
        _leave_if_forked(generation)
        if not is_heard:
            self._note_unheard(message.timed_event, attempt)

    def read_instance(self, payload: str, attempt: Attempt) -> DecodedInstance | None:
        """Return *payload* as the batch listener gets it, or None if it does not want its event.

        Raises :class:`Unreadable` or :class:`Undecodable` as :meth:`call` does.
        """
        instance = _read(self._decode_instance, payload)
        if self.batch_listener and self.batch_listener.accepts(instance.timed_event):
            return instance
        self._note_unheard(instance.timed_event, attempt)
        return None

    def call_batch(self, batch: Sequence[tuple[DecodedInstance, Attempt]]) -> None:
        """Call the batch listener with these messages; note it in their attempts.

        Raises whatever the listener raises.
        """
        listener = cast(Listener, self.batch_listener)
        for _, attempt in batch:
            attempt.listener = listener.path
        extras = {name: [_EXTRAS[name](*one) for one in batch] for name in listener.batch_extras}
        self.calling[0], call = self._batch_call
        started, generation = perf_counter(), forks.generation
        try:
            call([instance.value for instance, _ in batch], **extras)
        except BaseException as error:
            _note_failure(error, generation)
            raise
        finally:
            self.batch_tally.seconds += perf_counter() - started
        _leave_if_forked(generation)

    def _call_listeners(
        self, message: DecodedMessage, extras: dict[str, Any], attempt: Attempt
    ) -> bool:
        """Call the listeners of the timed event of *message*; return whether there is one."""
        is_heard = False
        for timed_events, path, position, call, select, tally in self._listeners:
            if not timed_events or message.timed_event in timed_events:
                is_heard, attempt.listener = True, path
                self.calling[0] = position
                if tally is None:
                    call(**select(message.fields, extras))
                    continue
                tally.messages += 1
                started = perf_counter()
                try:
                    call(**select(message.fields, extras))
                finally:
                    tally.seconds += perf_counter() - started
        return is_heard

    def _note_unheard(self, timed_event: str, attempt: Attempt) -> None:
        """Note that no listener takes this event; warn if none of another subscription does."""
        self._unheard.messages += 1
        if not any(one.accepts(timed_event) for one in registry.listeners_of(self._channel)):
            logger.warning(UNHEARD, attempt.lane, timed_event, extra=attempt.extra)

    def caller(self, listener: Listener) -> Call:
        """Return the function to call for *listener*, limited by its channel's timeout, if any."""
        return self._limited(listener.target, listener.callback)

    def _limited(self, target: Call, callback: Call) -> Call:
        seconds = self._channel.timeout
        if seconds is None:
            return callback
        is_async = inspect.iscoroutinefunction(target)
        call = async_to_sync(_cancelled_after(seconds, target)) if is_async else callback

        def limited(*messages: Any, **arguments: Any) -> None:
            # A coroutine times out by itself, in another thread; its query may run in this one.
            connection, limited = self._session.connection, partial(call, *messages, **arguments)
            call_with_timeout(seconds, connection, limited, interrupt=not is_async)

        return limited


_EXTRAS: dict[str, Callable[[DecodedInstance, Attempt], object]] = {
    "contexts": lambda instance, attempt: instance.context,
    "notifications": lambda instance, attempt: attempt.notification(),
}
"""Of each message what a batch listener may name."""


def _read(decode: Callable[[str], Decoded], payload: str) -> Decoded:
    try:
        return decode(payload)
    except Undecodable:
        raise
    except PayloadError as error:
        raise Unreadable(str(error)) from error


def _note_failure(error: BaseException, generation: int) -> None:
    """Add a hint to *error*, which code of the project has raised, if it needs one."""
    _leave_if_forked(generation, error)
    if isinstance(error, RuntimeError) and is_durability_error(error):
        error.add_note(DURABLE_HINT)


def _leave_if_forked(generation: int, error: BaseException | None = None) -> None:
    """End the process if code of the project has forked it since *generation*."""
    if forks.generation != generation:
        forks.leave(error)


def _cancelled_after(seconds: float, target: Callable[..., Any]) -> Callable[..., Any]:
    async def limited(*messages: Any, **arguments: Any) -> None:
        try:
            async with asyncio.timeout(seconds) as limit:
                await target(*messages, **arguments)
        except TimeoutError as error:
            if limit.expired():
                raise ListenerTimeout(TIMED_OUT.format(seconds)) from error
            raise

    return limited
