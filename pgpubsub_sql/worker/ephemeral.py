"""Ephemeral delivery: messages that are sent and not stored."""

from __future__ import annotations

import logging
import time
from functools import partial

from django.utils import timezone

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.retry import Discard
from pgpubsub_sql.worker.attempts import Attempt
from pgpubsub_sql.worker.decoding import decode_headers, long_payload
from pgpubsub_sql.worker.dispatch import Dispatcher
from pgpubsub_sql.worker.isolation import MESSAGE_ERRORS
from pgpubsub_sql.worker.reporting import guarded, is_reported, report_outcome, report_start
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")


def handle_ephemeral(
    channel: type[BaseChannel], payload: str, schema: str, session: Session, dispatch: Dispatcher
) -> None:
    """Call the listeners of *channel* with an ephemeral message, in a transaction of its own.

    A message from another schema than *schema* is for other workers. A failure is logged, and ends
    the message.
    """
    attempt = Attempt(
        channel=channel,
        using=session.using,
        name=channel.postgres_name(),
        created_at=timezone.now(),
    )
    started = time.perf_counter()
    try:
        headers = decode_headers(payload)
        if headers.schema not in (None, schema):
            return
        report_start(attempt)
        started = time.perf_counter()
        if headers.ref is not None:
            payload = long_payload(session, headers.ref)
        _call_isolated(dispatch, payload, session, attempt)
    except MESSAGE_ERRORS as error:  # it ends its message only
        attempt.error = error
    attempt.duration = time.perf_counter() - started
    if attempt.error is not None:
        attempt.context.run(_log_failure, attempt, attempt.error)
        if not (_is_unread(attempt) or isinstance(attempt.error, Discard)):
            session.drop_if_broken()
    report_outcome(attempt)
    if is_reported():
        session.reclaim(attempt.name)
    session.tidy_up()


def _call_isolated(dispatch: Dispatcher, payload: str, session: Session, attempt: Attempt) -> None:
    with session.isolation(durable=True, channel=attempt.name) as isolation:
        within = partial(attempt.context.run, dispatch, payload, attempt)
        isolation.run_alone(within, guarded(attempt))


def _log_failure(attempt: Attempt, error: BaseException) -> None:
    name, extra = attempt.name, attempt.extra
    if _is_unread(attempt):
        logger.error(
            "A message on channel %s cannot be read, and was dropped: %s", name, error, extra=extra
        )
    elif isinstance(error, Discard):
        message = "A message on channel %s was discarded by its listener: %s"
        logger.info(message, name, error, extra=extra)
    else:
        message = "A message on channel %s failed; it will not be retried, as it is not stored%s."
        of_listener = f" (listener {attempt.listener})" if attempt.listener else ""
        logger.error(message, name, of_listener, exc_info=error, extra=extra)


def _is_unread(attempt: Attempt) -> bool:
    """Return whether the message could not be read, so that no listener was called."""
    return isinstance(attempt.error, PayloadError) and not attempt.listener
