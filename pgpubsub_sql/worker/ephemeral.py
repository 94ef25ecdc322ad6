"""Ephemeral delivery: messages that are sent and not stored."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from django.utils import timezone

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.retry import Discard
from pgpubsub_sql.worker.attempts import Attempt, new_context
from pgpubsub_sql.worker.decoding import decode_headers
from pgpubsub_sql.worker.dispatch import Dispatcher
from pgpubsub_sql.worker.isolation import MESSAGE_ERRORS, Isolation
from pgpubsub_sql.worker.long_payloads import LongPayloads
from pgpubsub_sql.worker.reporting import (
    guarded,
    is_observed,
    is_reported,
    report_outcome,
    report_start,
)
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")


class Ephemeral:
    """Handles the ephemeral messages of *channel*, each in a transaction of its own.

    A message that does not query has none. Such messages follow each other in one atomic block,
    which Django begins only with a query. A message that uses the connection, or that fails, ends
    the block. So does each message while signals or the log tell of it.
    """

    def __init__(
        self,
        channel: type[BaseChannel],
        session: Session,
        dispatch: Dispatcher,
        observe: Callable[[Sequence[Attempt]], object] = lambda attempts: None,
    ) -> None:
        self._channel = channel
        self._observe = observe
        self._name = channel.postgres_name()
        self._session = session
        self._dispatch = dispatch
        self._long_payloads = LongPayloads(session)
        self._started = 0.0
        """When the last message was begun, by the clock for durations."""
        self._foreign = 0
        """Number of messages that are for other workers, among the last ones."""

    def handle(self, waiting: deque[str], schema: str, until: float = math.inf) -> None:
        """Handle messages from the left of *waiting*: one, and others until this time.

        A message from another schema than *schema* is for other workers. A failure is logged, and
        ends its message.
        """
        self._handle_some(waiting, schema, until)
        while waiting and time.monotonic() < until:
            self._handle_some(waiting, schema, until)

    def _handle_some(self, waiting: deque[str], schema: str, until: float) -> None:
        """Handle one message, and those after it that can do with the same block."""
        before, self._foreign, began = len(waiting), 0, time.perf_counter()
        attempt = Attempt(
            channel=self._channel,
            using=self._session.using,
            name=self._name,
            created_at=timezone.now(),
        )
        self._started = time.perf_counter()
        try:
            payload = waiting.popleft()
            headers = decode_headers(payload)
            if headers.schema not in (None, schema):
                self._foreign = 1
                return
            report_start(attempt)
            self._started = time.perf_counter()
            if headers.ref is not None:
                payload = self._long_payloads.get(headers.ref, waiting)
            with self._session.isolation(durable=True, channel=self._name) as isolation:
                is_unused = isolation.run_alone(
                    attempt.context.run, guarded(attempt), self._dispatch.call, payload, attempt
                )
                if is_unused and not is_observed():
                    self._run_others(waiting, schema, until, attempt, isolation)
        except MESSAGE_ERRORS as error:  # it ends its message only
            attempt.error = error
        dispatched = before - len(waiting) - self._foreign - _is_unread(attempt)
        self._dispatch.ran(dispatched, time.perf_counter() - began)
        self._end(attempt)

    def _run_others(
        self,
        waiting: deque[str],
        schema: str,
        until: float,
        attempt: Attempt,
        isolation: Isolation,
    ) -> None:
        """Handle messages until one uses the connection, or needs a query to be read.

        *attempt* is each of theirs in turn: nobody has seen it.
        """
        guard, dispatch, pristine = guarded(attempt), self._dispatch.call, new_context()
        while waiting and time.monotonic() < until:
            context = attempt.context = pristine.copy()
            attempt.listener = ""
            self._started = time.perf_counter()
            payload = waiting.popleft()
            headers = decode_headers(payload)
            if headers.ref is not None:
                waiting.appendleft(payload)
                return
            if headers.schema not in (None, schema):
                self._foreign += 1
                continue
            if not isolation.run_alone(context.run, guard, dispatch, payload, attempt):
                return

    def _end(self, attempt: Attempt) -> None:
        attempt.duration = time.perf_counter() - self._started
        if attempt.error is not None:
            attempt.context.run(_log_failure, attempt, attempt.error)
            if not (_is_unread(attempt) or isinstance(attempt.error, Discard)):
                self._session.drop_if_broken()
        self._observe([attempt])
        report_outcome(attempt)
        if is_reported():
            self._session.reclaim(self._name)
        self._session.tidy_up()


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
