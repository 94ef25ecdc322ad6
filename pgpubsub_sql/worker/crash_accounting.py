"""Crash accounting: what becomes of messages that a crashed worker had in flight."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import WorkerDied
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.outcomes import Claimed
from pgpubsub_sql.worker.reporting import log_failure, report_outcome
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")


def account_for(
    abandoned: Sequence[Claimed], channel: type[BaseChannel], subscription: str, session: Session
) -> list[Attempt]:
    """Record what becomes of *abandoned* messages; return the failed attempts.

    Nobody knows which message of a batch has crashed its worker. So each message is handled alone
    from now on, and only one that was in flight alone is charged with a failed attempt.
    """
    if not abandoned:
        return []
    session.execute("isolate", {"ids": [one.id for one in abandoned if not one.alone]})
    lane = Lane(channel.postgres_name(), subscription)
    return [_charge(one, channel, lane, session) for one in abandoned if one.alone]


def _charge(one: Claimed, channel: type[BaseChannel], lane: Lane, session: Session) -> Attempt:
    attempt = Attempt.of_stored(channel, lane, one, session.using)
    session.record_failure(one.id, one.attempts, attempt.fail(WorkerDied()))
    return attempt


def report_crashes(abandoned: Sequence[Claimed], charged: Iterable[Attempt], lane: Lane) -> None:
    """Report what :func:`account_for` recorded, once it is committed."""
    if count := sum(not one.alone for one in abandoned):
        message = (
            "Notifications of channel %s were in flight in a transaction that was rolled back "
            "(number: %s): a worker died, lost its connection, or had to roll back. None is lost. "
            "Each will be handled in a transaction of its own, which shows whether one of them is "
            "the cause."
        )
        logger.warning(message, lane, count, extra={**lane._asdict(), "count": count})
    for attempt in charged:
        log_failure(attempt)
        report_outcome(attempt)
