"""Messages that were sent and not stored."""

from __future__ import annotations

import logging
import time
from functools import partial

from django.utils import timezone

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.retry import Discard
from pgpubsub_sql.worker.calling import Caller
from pgpubsub_sql.worker.isolation import CAUGHT
from pgpubsub_sql.worker.messages import decode_envelope, long_payload
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.telling import Handling, guarded, is_told, tell_handled, tell_received

logger = logging.getLogger("pgpubsub_sql.worker")


def handle_sent(
    channel: type[BaseChannel], payload: str, schema: str, session: Session, call: Caller
) -> None:
    """Call the listeners of *channel*, in a transaction that begins with their first query.

    What was sent from another schema is for others. A failure is logged, and ends the message.
    """
    handling = Handling(
        channel=channel,
        using=session.using,
        name=channel.postgres_name(),
        created_at=timezone.now(),
    )
    started = time.perf_counter()
    call.listener = ""
    try:
        envelope = decode_envelope(payload)
        if envelope.schema not in (None, schema):
            return
        tell_received(handling)
        started = time.perf_counter()
        if envelope.ref is not None:
            payload = long_payload(session, envelope.ref)
        _call_isolated(call, payload, session, handling)
    except CAUGHT as error:  # whatever a listener raises ends its message only
        handling.error, handling.listener = error, call.listener
    handling.duration = time.perf_counter() - started
    if handling.error is not None:
        handling.context.run(_log_failure, handling, handling.error)
        if not (_is_unread(handling) or isinstance(handling.error, Discard)):
            session.drop_if_broken()
    tell_handled(handling)
    if is_told():
        session.reclaim(handling.name)
    session.tidy_up()


def _call_isolated(call: Caller, payload: str, session: Session, handling: Handling) -> None:
    with session.isolation(durable=True, channel=handling.name) as isolation:
        within = partial(handling.context.run, call, payload, handling.notification)
        isolation.run_alone(within, guarded(handling))


def _log_failure(handling: Handling, error: BaseException) -> None:
    name, extra = handling.name, handling.extra
    if _is_unread(handling):
        logger.error(
            "A message on channel %s cannot be read, and was dropped: %s", name, error, extra=extra
        )
    elif isinstance(error, Discard):
        message = "A message on channel %s was discarded by its listener: %s"
        logger.info(message, name, error, extra=extra)
    else:
        message = "A message on channel %s failed; it will not be retried, as it is not stored%s."
        of_listener = f" (listener {handling.listener})" if handling.listener else ""
        logger.error(message, name, of_listener, exc_info=error, extra=extra)


def _is_unread(handling: Handling) -> bool:
    """Whether no listener was called, as the message cannot be read."""
    return isinstance(handling.error, PayloadError) and not handling.listener
