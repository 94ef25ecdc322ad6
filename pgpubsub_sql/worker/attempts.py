"""One attempt to handle one message: what is known of it, and the context it runs in."""

from __future__ import annotations

import dataclasses
import datetime
import sys
import threading
from contextlib import suppress
from contextvars import Context
from functools import cache
from typing import Any

from django.apps import apps
from django.core.cache import caches
from django.db import connections

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.django_internals import as_read, set_database
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.outcomes import (
    Claimed,
    Failure,
    Postpone,
    Undecodable,
    Unreadable,
    after_failure,
)


def new_context() -> Context:
    """Return a context without language, time zone, or any other ContextVar.

    The exception is the worker's tenant, which django-pgschemas keeps in one.
    """
    context = _pristine(threading.get_ident()).copy()
    if pgschemas := sys.modules.get("django_pgschemas.schema"):
        context.run(pgschemas.active.set, pgschemas.active.get())
    return context


@cache
def _pristine(thread: int) -> Context:
    context = Context()
    context.run(_open_caches)
    return context


def _open_caches() -> None:
    """Create the project's caches, which Django keeps for each context and thread.

    Otherwise each message would create and connect its own.
    """
    for alias in caches:
        with suppress(Exception):  # the listener that uses the cache gets the error
            caches[alias]


@dataclasses.dataclass(kw_only=True, slots=True)
class Attempt:
    """One attempt to handle one message, and its result."""

    channel: type[BaseChannel]
    using: str
    """Alias of the database."""
    name: str
    """Name of the channel in PostgreSQL."""
    subscription: str = ""
    """Name of the subscription; empty for listeners without one."""
    created_at: datetime.datetime | str
    """A string is PostgreSQL's spelling, which is parsed only if somebody asks for it."""
    id: int | None = None
    attempts: int = 0
    """Number of attempts that failed before."""
    unreadable: int = 0
    """Number of times that the message could not be read before."""
    listener: str = ""
    """Dotted path of the listener that was called last; empty if none was."""
    duration: float | None = None
    """Seconds that the attempt took; None if that cannot be known."""
    error: BaseException | None = None
    """What the attempt failed with."""
    outcome: Failure | None = None
    """What becomes of a stored message that failed."""
    callback_error: BaseException | None = None
    """What one of its callbacks of ``on_commit()`` raised, after the message was handled."""
    context: Context = dataclasses.field(default_factory=new_context, repr=False)
    """Context for listeners, callbacks, receivers and log records."""

    @classmethod
    def of_stored(
        cls, channel: type[BaseChannel], lane: Lane, claimed: Claimed, using: str
    ) -> Attempt:
        """Return an attempt to handle a message of *channel* that is stored in this *lane*."""
        rest = claimed.rest
        return cls(
            channel=channel,
            using=using,
            name=lane.channel,
            subscription=lane.subscription,
            created_at=claimed.created_at,
            id=claimed.id,
            attempts=rest.attempts,
            unreadable=rest.unreadable,
        )

    def fail(self, error: BaseException, outcome: Failure | None = None) -> Failure:
        """Record a failure; return what becomes of the stored message.

        Without an *outcome*, the channel's retry policy decides.
        """
        self.error = error
        self.outcome = outcome or after_failure(
            self.attempts, error, self.channel.retry, unreadable=self.unreadable
        )
        return self.outcome

    def notification(self) -> Any:
        """Return the ``Notification`` for listeners and receivers, without a payload."""
        return notification(
            self.using,
            id=self.id,
            channel=self.name,
            subscription=self.subscription,
            created_at=self.created_at,
            attempts=self.attempts,
        )

    @property
    def lane(self) -> Lane:
        """Its channel and subscription."""
        return Lane(self.name, self.subscription)

    @property
    def failed_listener(self) -> str:
        """Dotted path of the listener that failed; empty if none did."""
        return "" if self.error is None else self.listener

    @property
    def particulars(self) -> str:
        """Number of the failed attempt and its listener, in parentheses, for the log."""
        counts = not isinstance(self.error, Unreadable | Undecodable)
        counts = counts and not isinstance(self.outcome, Postpone)
        attempt = f"attempt {self.attempts + 1} of {self.channel.retry.max_attempts}"
        found = [attempt] * counts + [f"listener {self.listener}"] * bool(self.listener)
        return f" ({', '.join(found)})" if found else ""

    @property
    def extra(self) -> dict[str, Any]:
        """Attributes of its log records."""
        return {
            "channel": self.name,
            "subscription": self.subscription,
            "notification_id": self.id,
            "attempt": self.attempts + 1,
            "listener": self.failed_listener,
            "duration": self.duration,
        }


def notification(using: str, *, created_at: datetime.datetime | str, **values: Any) -> Any:
    """Return the ``Notification`` that a listener gets as ``notification``, without a payload."""
    if isinstance(created_at, str):
        values["created_at"] = moment(created_at, connections[using])
    else:
        values["created_at"] = created_at
    one = apps.get_model("pgpubsub_sql", "Notification")(payload=None, **values)
    # It tells the listener which database is written in the message's own transaction.
    set_database(one, using)
    return one


def moment(text: str, connection: Any) -> datetime.datetime | None:
    """Return PostgreSQL's *text* as Django reads it; None if Python's calendar lacks it."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:  # infinity, and years outside 1 to 9999
        return None
    return as_read(found, connection)
