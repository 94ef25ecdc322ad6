"""What became of messages that a test has had handled, and of the calls of their listeners."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, overload

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import ListenerError
from pgpubsub_sql.listeners import Listener, field_names, registry
from pgpubsub_sql.retry import Discard
from pgpubsub_sql.rows import Change
from pgpubsub_sql.testing.lookups import MISSING, differences, show
from pgpubsub_sql.testing.messages import Message
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.decoding import DecodedInstance
from pgpubsub_sql.worker.dispatch import Call as Caller
from pgpubsub_sql.worker.dispatch import Dispatcher
from pgpubsub_sql.worker.outcomes import Discarded, Park
from pgpubsub_sql.worker.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One call of a listener."""

    listener: Listener
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        """Return it as code."""
        arguments = (f"{name}={show(value)}" for name, value in self.arguments.items())
        return f"{self.listener.path}({', '.join(arguments)})"

    def differences(self, lookups: Mapping[str, Any]) -> list[str]:
        """Return which arguments differ from *lookups*, in words; nothing if all of them hold."""
        return differences(lambda name: self.arguments.get(name, MISSING), lookups)


class HandledMessage:
    """A message that was handled or tried, and its outcome."""

    def __init__(self, message: Message[Any], attempt: Attempt) -> None:
        self.message = message
        """What was handled."""
        self.calls: list[Call] = []
        """Calls of listeners, the last of which may have failed."""
        self._attempt = attempt

    @property
    def error(self) -> BaseException | None:
        """What a listener, the decoding, or a callback of ``on_commit()`` raised."""
        return self._attempt.error or self._attempt.callback_error

    @property
    def succeeded(self) -> bool:
        """Whether its listeners have returned, and what they wrote is kept."""
        return self._attempt.error is None

    @property
    def discarded(self) -> bool:
        """Whether its listener discarded it."""
        return isinstance(self._attempt.error, Discard)

    @property
    def parked(self) -> bool:
        """Whether it failed for good, and is parked."""
        return isinstance(self._attempt.outcome, Park)

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next attempt that its failure leads to; None if there is none."""
        outcome = self._attempt.outcome
        return None if isinstance(outcome, Park | Discarded | None) else outcome.seconds

    def __str__(self) -> str:
        """Return one line for a failure."""
        return f"{self.message}: {self._outcome()}"

    def _outcome(self) -> str:
        if self.succeeded:
            return (
                "handled" if self.error is None else f"handled; its callback raised {self.error!r}"
            )
        if self.discarded:
            return "discarded"
        end = "parked" if self.parked else "to be retried" if self.retry_in else "lost"
        listener = f" in {self._attempt.listener}" if self._attempt.listener else ""
        return f"{end}, after {self._attempt.error!r}{listener}"


class Handled(Sequence[HandledMessage]):
    """The messages that :meth:`PubSub.drain` has handled or tried, in order."""

    def __init__(self) -> None:
        self.given_up_at_limit = False
        """Whether messages were left because the limit was reached."""
        self._messages: list[HandledMessage] = []

    @overload
    def __getitem__(self, index: int) -> HandledMessage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[HandledMessage]: ...
    def __getitem__(self, index: int | slice) -> HandledMessage | Sequence[HandledMessage]:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __repr__(self) -> str:
        return f"<Handled: {[str(one) for one in self]}>"

    @property
    def errors(self) -> list[BaseException]:
        """What listeners, decoding and callbacks have raised, except :class:`Discard`, in order."""
        return [one.error for one in self if one.error is not None and not one.discarded]

    def add(self, message: HandledMessage) -> None:
        """Add a message whose outcome is final."""
        self._messages.append(message)


class Failing:
    """A listener that fails instead of being called, a number of times or always."""

    def __init__(self, listener: Listener, times: int | None, error: BaseException | None) -> None:
        self._identity = listener.identity
        self._left = times
        self._error = error or ListenerError(f"{listener.path} was made to fail by the test.")
        self.calls: list[Call] = []
        """The calls that failed."""

    def fail(self, call: Call) -> None:
        """Raise the error if *call* is one that is to fail."""
        if call.listener.identity != self._identity or self._left == 0:
            return
        if self._left is not None:
            self._left -= 1
        self.calls.append(call)
        raise self._error.with_traceback(None)


class Record:
    """What a test has had handled, and what is to fail."""

    def __init__(self) -> None:
        self.handled: list[HandledMessage] = []
        """All messages of the test, in order."""
        self._failing: list[Failing] = []
        self._running: dict[int, HandledMessage] = {}
        """By identity of their attempts: messages whose outcome is not final yet."""

    @contextmanager
    def failing(self, one: Failing) -> Iterator[None]:
        """Have calls fail within the block."""
        self._failing.append(one)
        try:
            yield
        finally:
            self._failing.remove(one)

    def began(self, channel: type[BaseChannel], payload: str, attempt: Attempt) -> HandledMessage:
        """Note that a message is about to be handled."""
        message: Message[Any] = Message(
            channel=channel,
            text=payload,
            durable=channel.lock_notifications,
            subscription=attempt.subscription,
            attempts=attempt.attempts,
            using=attempt.using,
        )
        self._running[id(attempt)] = found = HandledMessage(message, attempt)
        return found

    def called(self, attempt: Attempt, call: Call) -> None:
        """Note that this is how a batch listener gets a message; only the last call counts."""
        self._running[id(attempt)].calls = [call]

    def fail(self, call: Call) -> None:
        """Raise an error if *call* is to fail."""
        for one in reversed(self._failing):
            one.fail(call)

    def ended(self, attempts: Iterable[Attempt]) -> list[HandledMessage]:
        """Note that the outcomes of *attempts* are final; return their messages."""
        found = [self._running.pop(id(one), None) for one in attempts]
        ended = [one for one in found if one is not None]
        self.handled += ended
        return ended

    @property
    def running(self) -> int:
        """Number of messages whose outcome is not final yet."""
        return len(self._running)

    def forget_unfinished(self) -> None:
        """Forget attempts whose batch was rolled back: their messages are tried again."""
        self._running.clear()


class RecordingDispatcher(Dispatcher):
    """Calls the listeners of a channel, or only *only*, and writes down the calls."""

    def __init__(
        self,
        channel: type[BaseChannel],
        subscription: str,
        session: Session,
        *,
        record: Record,
        check: Callable[[], object] = lambda: None,
        only: Listener | None = None,
    ) -> None:
        self._record = record
        self._check = check
        self._only = only
        self._message: HandledMessage | None = None
        super().__init__(channel, subscription, session)

    def call(self, payload: str, attempt: Attempt) -> None:
        """Decode *payload* and call listeners."""
        if not self.batch_listener:
            self._message = self._record.began(self._channel, payload, attempt)
        super().call(payload, attempt)

    def read_instance(self, payload: str, attempt: Attempt) -> DecodedInstance | None:
        """Return *payload* as the batch listener gets it."""
        self._record.began(self._channel, payload, attempt)
        return super().read_instance(payload, attempt)

    def call_batch(self, batch: Sequence[tuple[DecodedInstance, Attempt]]) -> None:
        """Call the batch listener."""
        listener = cast(Listener, self.batch_listener)
        for instance, attempt in batch:
            arguments = fields_of(self._channel, instance.value)
            self._record.called(attempt, Call(listener=listener, arguments=arguments))
        super().call_batch(batch)

    def caller(self, listener: Listener) -> Caller:
        """Return the function to call for *listener*, which writes down the call."""
        limited = super().caller(listener)

        def call(*messages: Any, **arguments: Any) -> None:
            if self._only is not None and listener.identity != self._only.identity:
                return
            named = {"messages": messages[0]} if messages else {}
            one = Call(listener=listener, arguments=named | arguments)
            if self._message is not None:
                self._message.calls.append(one)
            self._record.fail(one)
            try:
                limited(*messages, **arguments)
            finally:
                self._check()

        return call


def fields_of(channel: type[BaseChannel], message: Any) -> dict[str, Any]:
    """Return what a batch listener gets of one message, by name."""
    names = ["op", "old", "new"] if isinstance(message, Change) else field_names(channel)
    return {name: getattr(message, name) for name in names}


def find_listener(function: Callable[..., Any]) -> Listener:
    """Return the registered listener that is, or wraps, *function*.

    Raises :class:`LookupError` if there is none.
    """
    for channel in registry.channels():
        for listener in registry.listeners_of(channel):
            if function in (listener.function, listener.target, listener.identity):
                return listener
    name = getattr(function, "__qualname__", repr(function))
    raise LookupError(f"{name} is not a listener: no decorator has registered it.")
