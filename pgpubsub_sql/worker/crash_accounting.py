"""What becomes of notifications that somebody had in hand and gave up without account."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import WorkerDied
from pgpubsub_sql.worker.outcomes import Claimed, after_failure
from pgpubsub_sql.worker.reporting import Attempt, attempt_at, log_failure, report_outcome
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")


def account_for(
    given_up: Sequence[Claimed], channel: type[BaseChannel], session: Session
) -> list[Attempt]:
    """Write down what became of *given_up*, which others had in hand; return what is charged.

    Which one of a batch has killed its worker nobody knows. So each is handled alone from now on,
    and only what was alone in hand is charged with an attempt.
    """
    if not given_up:
        return []
    session.execute("isolate", {"ids": [one.id for one in given_up if not one.alone]})
    return [_charge(one, channel, session) for one in given_up if one.alone]


def _charge(one: Claimed, channel: type[BaseChannel], session: Session) -> Attempt:
    attempt, error = attempt_at(channel, one, session.using), WorkerDied()
    outcome = after_failure(one.attempts, error, channel.retry)
    session.charge(one.id, one.attempts, outcome)
    attempt.error, attempt.outcome = error, outcome
    return attempt


def report_crashes(given_up: Sequence[Claimed], charged: Iterable[Attempt], name: str) -> None:
    """Tell what was written down, once it is so for good."""
    if count := sum(not one.alone for one in given_up):
        message = (
            "Notifications of channel %s were given up with the transaction that took them "
            "(number: %s): a worker died, lost its connection, or had to roll back. None is lost. "
            "Each will be handled in a transaction of its own, which shows whether one of them is "
            "the cause."
        )
        logger.warning(message, name, count, extra={"channel": name, "count": count})
    for attempt in charged:
        assert attempt.outcome is not None  # noqa: S101
        log_failure(attempt, attempt.outcome)
        report_outcome(attempt)
