"""What is told of messages, by signals and in the log."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from django.db import connections
from django.dispatch import Signal

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import ListenerTimeout
from pgpubsub_sql.retry import Discard
from pgpubsub_sql.signals import (
    message_failed,
    message_parked,
    message_received,
    message_succeeded,
)
from pgpubsub_sql.worker.contexts import new_context
from pgpubsub_sql.worker.isolation import CAUGHT, Isolation
from pgpubsub_sql.worker.messages import notification
from pgpubsub_sql.worker.outcomes import (
    Claimed,
    Discarded,
    Failure,
    Park,
    Postpone,
    ReadAgain,
    TryAgain,
    Undecodable,
    Unreadable,
    next_step,
)
from pgpubsub_sql.worker.timelimit import time_limit

logger = logging.getLogger("pgpubsub_sql.worker")

_LEVELS: dict[type[Failure], int] = {
    TryAgain: logging.ERROR,
    Park: logging.ERROR,
    Postpone: logging.WARNING,
    ReadAgain: logging.WARNING,
    Discarded: logging.INFO,
}


@dataclasses.dataclass(kw_only=True, slots=True)
class Attempt:
    """One attempt to handle one message, and what came of it."""

    channel: type[BaseChannel]
    using: str
    """Alias of the database."""
    name: str
    """Of the channel, in PostgreSQL."""
    created_at: datetime.datetime | str
    """Or as PostgreSQL spells it, which is read if somebody asks for it."""
    id: int | None = None
    attempts: int = 0
    """Those that failed before this one."""
    unreadable: int = 0
    """Times that it could not be read before."""
    listener: str = ""
    """Path of the listener that failed."""
    duration: float | None = None
    """Seconds that it took."""
    error: BaseException | None = None
    outcome: Failure | None = None
    """What becomes of a stored message that failed."""
    context: Context = dataclasses.field(default_factory=new_context, repr=False)
    """What listeners, callbacks and receivers run in, and what it is logged in."""

    def notification(self) -> Any:
        """Return what listeners and receivers are given."""
        return notification(
            self.using,
            id=self.id,
            channel=self.name,
            created_at=self.created_at,
            attempts=self.attempts,
        )

    @property
    def particulars(self) -> str:
        """Which attempt of how many it was, and of which listener, in parentheses, for the log."""
        counts = not isinstance(self.error, Unreadable | Undecodable)
        attempt = f"attempt {self.attempts + 1} of {self.channel.retry.max_attempts}"
        found = [attempt] * counts + [f"listener {self.listener}"] * bool(self.listener)
        return f" ({', '.join(found)})" if found else ""

    @property
    def extra(self) -> dict[str, Any]:
        """What its log records have beside their text."""
        return {
            "channel": self.name,
            "notification_id": self.id,
            "attempt": self.attempts + 1,
            "listener": self.listener,
            "duration": self.duration,
        }


def attempt_at(channel: type[BaseChannel], taken: Claimed, using: str) -> Attempt:
    """Return an attempt to handle a stored message."""
    return Attempt(
        channel=channel,
        using=using,
        name=taken.channel,
        created_at=taken.created_at,
        id=taken.id,
        attempts=taken.attempts,
        unreadable=taken.unreadable,
    )


def send(signal: Signal, sender: Any, **named: Any) -> None:
    """Send *signal*, whatever its receivers do; Django logs what they raise."""
    try:
        signal.send_robust(sender, **named)
    except CAUGHT:  # such as SystemExit, which Django lets through
        message = "A receiver of a signal of %s failed; the worker goes on"
        logger.exception(message, sender.__name__)


def report_start(attempt: Attempt, isolation: Isolation | None = None) -> None:
    """Tell that a message is about to be handled, by itself within the transaction of a batch."""
    if not message_received.receivers:
        return
    report = partial(_send, message_received, attempt)
    if isolation is None:
        report()
    elif error := isolation.run(report, guarded(attempt), is_prelude=True):
        message = (
            "Receivers of message_received failed for a message of channel %s. What they did is "
            "undone; the message is handled all the same."
        )
        logger.error(message, attempt.name, exc_info=error, extra=attempt.extra)


def report_outcome(attempt: Attempt) -> None:
    """Tell what came of a message, once it is so for good."""
    if attempt.error is None:
        message = "Handled a message of channel %s in %.3f s"
        logger.debug(message, attempt.name, attempt.duration, extra=attempt.extra)
        _send(message_succeeded, attempt, "duration")
        return
    outcome, named = attempt.outcome, ("duration", "error", "listener")
    retry_in = outcome.seconds if isinstance(outcome, TryAgain | ReadAgain | Postpone) else None
    _send(message_failed, attempt, *named, retry_in=retry_in)
    if isinstance(outcome, Park):
        _send(message_parked, attempt, "error")


def is_reported() -> bool:
    """Whether anybody hears what came of messages, and may have used the connection."""
    return any(one.receivers for one in (message_succeeded, message_failed, message_parked))


def log_failure(attempt: Attempt, outcome: Failure) -> None:
    """Log what a stored message failed with, at which attempt, and what happens next."""
    error = attempt.error
    says_enough = isinstance(error, Unreadable | Undecodable | Discard)
    is_said = isinstance(outcome, ReadAgain) and outcome.times > 1
    attempt.context.run(
        logger.log,
        logging.DEBUG if is_said else _LEVELS[type(outcome)],
        "Notification %s of channel %s failed and %s%s%s",
        attempt.id,
        attempt.name,
        next_step(outcome),
        attempt.particulars,
        f": {error}" if says_enough else ".",
        exc_info=None if says_enough else error,
        extra=attempt.extra,
    )


def guarded(attempt: Attempt) -> Callable[[Callable[[], object]], Callable[[], None]]:
    """Return what keeps the failure of one callback given to ``on_commit()`` from the others."""
    return partial(_guarded, attempt)


def _guarded(attempt: Attempt, callback: Callable[[], object]) -> Callable[[], None]:
    connection: Any = connections[attempt.using]
    limited = partial(time_limit, attempt.channel.timeout, connection, callback)

    def call_back() -> None:
        # What it belongs to is committed already.
        try:
            limited()
        except ListenerTimeout:
            logger.exception(
                "A callback given to transaction.on_commit() by a listener of channel %s took "
                "longer than the channel's timeout (%s s) and was interrupted; the message itself "
                "was handled. Raise the timeout, or send what takes long on a channel of its own.",
                attempt.name,
                attempt.channel.timeout,
                extra=attempt.extra,
            )
        except CAUGHT:
            logger.exception(
                "A callback given to transaction.on_commit() by a listener of channel %s "
                "failed; the message itself was handled.",
                attempt.name,
                extra=attempt.extra,
            )

    return partial(attempt.context.run, call_back)


def _send(signal: Signal, attempt: Attempt, *names: str, **named: Any) -> None:
    if signal.receivers:
        named |= {name: getattr(attempt, name) for name in names}
        named |= {"notification": attempt.notification(), "using": attempt.using}
        attempt.context.run(send, signal, attempt.channel, **named)
