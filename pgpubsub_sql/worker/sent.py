"""Messages that were sent and not stored."""

from __future__ import annotations

import logging
from functools import partial

from django.utils import timezone

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.retry import Discard
from pgpubsub_sql.worker.batch import guarded
from pgpubsub_sql.worker.calling import Caller
from pgpubsub_sql.worker.isolation import CAUGHT
from pgpubsub_sql.worker.messages import decode_envelope, long_payload, notification
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")


def handle_sent(name: str, payload: str, schema: str, session: Session, call: Caller) -> None:
    """Call the listeners of channel *name*, in a transaction that begins with their first query.

    What was sent from another schema is for others. A failure is logged, and ends the message.
    """
    try:
        envelope = decode_envelope(payload)
        if envelope.schema not in (None, schema):
            return
        if envelope.ref is not None:
            payload = long_payload(session, envelope.ref)
        now = timezone.now()
        with session.isolation(durable=True) as isolation:
            call(payload, partial(notification, session.using, channel=name, created_at=now))
            isolation.check()
            isolation.guard_callbacks(guarded(name))
    except PayloadError as error:
        logger.error("A message on channel %s was dropped: %s", name, error)
    except Discard as error:
        logger.info("A message on channel %s was discarded by its listener: %s", name, error)
    except CAUGHT:  # whatever a listener raises ends its message only
        logger.exception("A message on channel %s failed; it will not be retried.", name)
        session.drop_if_broken()
    session.tidy_up()
