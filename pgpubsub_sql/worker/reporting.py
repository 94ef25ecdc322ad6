"""Reporting: signals and log records about messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import connections
from django.dispatch import Signal

from pgpubsub_sql.errors import ListenerTimeout
from pgpubsub_sql.retry import Discard
from pgpubsub_sql.signals import (
    message_failed,
    message_parked,
    message_received,
    message_succeeded,
)
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.isolation import MESSAGE_ERRORS, Isolation
from pgpubsub_sql.worker.outcomes import (
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
from pgpubsub_sql.worker.timeouts import call_with_timeout

logger = logging.getLogger("pgpubsub_sql.worker")

_LEVELS: dict[type[Failure], int] = {
    TryAgain: logging.ERROR,
    Park: logging.ERROR,
    Postpone: logging.WARNING,
    ReadAgain: logging.WARNING,
    Discarded: logging.INFO,
}


def send(signal: Signal, sender: Any, **named: Any) -> None:
    """Send *signal*; Django logs what its receivers raise."""
    try:
        signal.send_robust(sender, **named)
    except MESSAGE_ERRORS:  # such as SystemExit, which Django does not catch
        message = "A receiver of one of %s's signals failed; the worker carries on"
        logger.exception(message, sender.__name__)


def log_pauses(before: set[Lane], now: set[Lane]) -> None:
    """Log which subscriptions have been paused, and which have been resumed."""
    for lane in sorted(now - before):
        message = "Channel %s is paused: its messages wait until somebody runs pgpubsub resume"
        logger.info(message, lane, extra=lane._asdict())
    for lane in sorted(before - now):
        logger.info("Channel %s is no longer paused", lane, extra=lane._asdict())


def report_start(attempt: Attempt, isolation: Isolation | None = None) -> None:
    """Report that a message is about to be handled; in a batch, isolated like a message."""
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
        logger.error(message, attempt.lane, exc_info=error, extra=attempt.extra)


def report_outcome(attempt: Attempt) -> None:
    """Report the outcome of a message, once it is final."""
    if attempt.error is None:
        message = "Handled a message of channel %s in %.3f s"
        logger.debug(message, attempt.lane, attempt.duration, extra=attempt.extra)
        _send(message_succeeded, attempt, "duration")
        return
    outcome, named = attempt.outcome, ("duration", "error", "listener")
    retry_in = outcome.seconds if isinstance(outcome, TryAgain | ReadAgain | Postpone) else None
    _send(message_failed, attempt, *named, retry_in=retry_in)
    if isinstance(outcome, Park):
        _send(message_parked, attempt, "error")


def is_observed() -> bool:
    """Return whether anything is told of each message that is handled, even if it succeeds."""
    is_logged = logger.isEnabledFor(logging.DEBUG)
    return is_logged or bool(message_received.receivers) or is_reported()


def is_reported() -> bool:
    """Return whether outcomes have receivers, which may use the connection."""
    return any(one.receivers for one in (message_succeeded, message_failed, message_parked))


def log_failure(attempt: Attempt) -> None:
    """Log the error of a stored message, the attempt, and what happens next."""
    error, outcome = attempt.error, attempt.outcome
    assert outcome is not None  # noqa: S101
    is_brief = isinstance(error, Unreadable | Undecodable | Discard)
    is_repeated = isinstance(outcome, ReadAgain) and outcome.times > 1
    attempt.context.run(
        logger.log,
        logging.DEBUG if is_repeated else _LEVELS[type(outcome)],
        "Notification %s of channel %s failed and %s%s%s",
        attempt.id,
        attempt.lane,
        next_step(outcome),
        attempt.particulars,
        f": {error}" if is_brief else ".",
        exc_info=None if is_brief else error,
        extra=attempt.extra,
    )


def guarded(attempt: Attempt) -> Callable[[Callable[[], object]], Callable[[], None]]:
    """Return a wrapper for callbacks given to ``on_commit()``, which logs their failures."""
    return partial(_guarded, attempt)


def _guarded(attempt: Attempt, callback: Callable[[], object]) -> Callable[[], None]:
    connection: Any = connections[attempt.using]
    limited = partial(call_with_timeout, attempt.channel.timeout, connection, callback)

    def call_back() -> None:
        # Its message is committed already.
        try:
            limited()
        except ListenerTimeout as error:
            attempt.callback_error = error
            logger.exception(
                "A callback given to transaction.on_commit() by a listener of channel %s took "
                "longer than the channel's timeout (%s s) and was interrupted; the message itself "
                "was handled. Raise the timeout, or send slow work on a channel of its own.",
                attempt.lane,
                attempt.channel.timeout,
                extra=attempt.extra,
            )
        except MESSAGE_ERRORS as error:
            attempt.callback_error = error
            logger.exception(
                "A callback given to transaction.on_commit() by a listener of channel %s "
                "failed; the message itself was handled.",
                attempt.lane,
                extra=attempt.extra,
            )

    return partial(attempt.context.run, call_back)


def _send(signal: Signal, attempt: Attempt, *names: str, **named: Any) -> None:
    if signal.receivers:
        named |= {name: getattr(attempt, name) for name in names}
        named |= {"notification": attempt.notification(), "using": attempt.using}
        attempt.context.run(send, signal, attempt.channel, **named)
