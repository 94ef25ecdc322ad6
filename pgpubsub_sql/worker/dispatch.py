"""Dispatch: calls the listeners of a channel with a decoded message."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from asgiref.sync import async_to_sync

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.django_internals import is_durability_error
from pgpubsub_sql.errors import ListenerTimeout, PayloadError
from pgpubsub_sql.listeners import Listener, Select, registry
from pgpubsub_sql.worker import forks
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.counters import Tally
from pgpubsub_sql.worker.decoding import Message, message_decoder, message_fields
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
    """Calls the listeners of *channel*, in order of registration.

    The position of the one that is called is assigned to :attr:`calling`, as in a pulse.
    """

    def __init__(self, channel: type[BaseChannel], session: Session) -> None:
        self._channel = channel
        self._session = session
        self._heard = registry.listeners_of(channel)
        self.calling = memoryview(bytearray(8)).cast("q")
        self._unheard = Tally("")
        self.tallies = [self._unheard]
        """What calls add up to, until somebody settles what became of their messages."""
        self._is_notification_named = any("notification" in one.parameters for one in self._heard)

    @property
    def listeners(self) -> int:
        """Number of listeners of the channel, which one message may all be for."""
        return len(self._heard)

    @cached_property
    def _decode(self) -> Callable[[str], Message]:
        return message_decoder(self._channel, using=self._session.using)

    @cached_property
    def _listeners(self) -> list[tuple[frozenset[str], Tally, int, Call, Select]]:
        """Of each listener: timed events, tally, position, function, what selects its arguments."""
        names, paths = message_fields(self._channel), registry.paths()
        listeners = [
            (
                one.timed_events,
                Tally(one.path),
                paths.index(one.path) + 1,
                self.caller(one),
                one.selector(names),
            )
            for one in self._heard
        ]
        self.tallies += [tally for _, tally, *_ in listeners]
        return listeners

    def __call__(self, payload: str, attempt: Attempt) -> None:
        """Decode *payload* and call the listeners of its timed event; note each in *attempt*.

        Raises :class:`Unreadable` or :class:`Undecodable` for a payload that does not fit the
        channel, and whatever a listener raises.
        """
        message = self._read(payload)
        extras: dict[str, Any] = {"context": message.context}
        if self._is_notification_named:
            extras["notification"] = attempt.notification()
        generation = forks.generation
        try:
            is_heard = self._call_listeners(message, extras, attempt)
        except BaseException as error:
            if forks.generation != generation:
                forks.leave(error)
            if isinstance(error, RuntimeError) and is_durability_error(error):
                error.add_note(DURABLE_HINT)
            raise
        if forks.generation != generation:
            forks.leave()
        if not is_heard:
            self._unheard.messages += 1
            logger.warning(UNHEARD, attempt.name, message.timed_event, extra=attempt.extra)

    def _call_listeners(self, message: Message, extras: dict[str, Any], attempt: Attempt) -> bool:
        """Call the listeners of the timed event of *message*; return whether there is one."""
        is_heard = False
        for timed_events, tally, position, call, select in self._listeners:
            if not timed_events or message.timed_event in timed_events:
                is_heard, attempt.listener = True, tally.listener
                self.calling[0] = position
                tally.messages += 1
                started = time.perf_counter()
                try:
                    call(**select(message.fields, extras))
                finally:
                    tally.seconds += time.perf_counter() - started
        return is_heard

    def caller(self, listener: Listener) -> Call:
        """Return the function to call for *listener*, limited by its channel's timeout, if any."""
        return self._limited(listener.target, listener.callback)

    def _read(self, payload: str) -> Message:
        try:
            return self._decode(payload)
        except Undecodable:
            raise
        except PayloadError as error:
            raise Unreadable(str(error)) from error

    def _limited(self, target: Call, callback: Call) -> Call:
        seconds = self._channel.timeout
        if seconds is None:
            return callback
        is_async = inspect.iscoroutinefunction(target)
        call = async_to_sync(_cancelled_after(seconds, target)) if is_async else callback

        def limited(**arguments: Any) -> None:
            # A coroutine times out by itself, in another thread; its query may run in this one.
            connection, limited = self._session.connection, partial(call, **arguments)
            call_with_timeout(seconds, connection, limited, interrupt=not is_async)

        return limited


def _cancelled_after(seconds: float, target: Callable[..., Any]) -> Callable[..., Any]:
    async def limited(**arguments: Any) -> None:
        try:
            async with asyncio.timeout(seconds) as limit:
                await target(**arguments)
        except TimeoutError as error:
            if limit.expired():
                raise ListenerTimeout(TIMED_OUT.format(seconds)) from error
            raise

    return limited
