"""What a supervisor does about the message that a worker died of."""

from __future__ import annotations

import datetime
import logging
import signal

from django.db import connections

from pgpubsub_sql.channels import BaseChannel, find_channel
from pgpubsub_sql.errors import ChannelNotFound, WorkerDied
from pgpubsub_sql.worker.outcomes import after_failure, next_step
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.telling import Handling, tell_handled

logger = logging.getLogger("pgpubsub_sql.supervisor")


def charge_for_death(notification_id: int, exit_code: int | None, *, using: str) -> None:
    """Count an attempt of the notification that a worker had in hand when it died.

    The server lets go of it once it has noticed the death; to wait for that, for a few seconds,
    keeps others from taking it uncharged. What hinders the charge is logged: the message is then
    handled once more than it should be.
    """
    try:
        _charge(Session(using), notification_id, exit_code)
    except Exception:  # the supervisor outlives it
        message = "Notification %s, of which a worker may have died, cannot be charged for it"
        extra = {"notification_id": notification_id}
        logger.warning(message, notification_id, exc_info=True, extra=extra)
    finally:
        connections[using].close()  # a fork must not share it


def _charge(session: Session, notification_id: int, exit_code: int | None) -> None:
    error = WorkerDied(f"A worker died with {_name(exit_code)} while it had this in hand.")
    with session.isolation():
        session.execute("wait_briefly")
        found = session.execute("find", {"id": notification_id})
        handlings = [_handling(session.using, notification_id, *row) for row in found]
        for handling in handlings:
            outcome = after_failure(handling.attempts, error, handling.channel.retry)
            session.charge(notification_id, handling.attempts, outcome)
            handling.error, handling.outcome = error, outcome
            message = "Notification %s of channel %s, which a worker died of, %s"
            told = notification_id, handling.name, next_step(outcome)
            logger.error(message, *told, extra=handling.extra)
    for handling in handlings:
        tell_handled(handling)


def _handling(
    using: str, number: int, name: str, attempts: int, created_at: datetime.datetime
) -> Handling:
    try:
        channel = find_channel(name)
    except ChannelNotFound:
        channel = BaseChannel
    return Handling(
        channel=channel,
        using=using,
        name=name,
        created_at=created_at,
        id=number,
        attempts=attempts,
    )


def _name(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
