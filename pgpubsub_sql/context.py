"""What travels beside every payload: a mapping kept in a setting of the transaction.

PostgreSQL knows it as ``pgpubsub.notification_context``, so people who write SQL can
``SET LOCAL`` it themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DEFAULT_DB_ALIAS

from pgpubsub_sql.errors import TransactionRequired

_PQTRANS_INERROR = 3
"""libpq's number for a failed transaction, the same under both drivers."""

_SET = "SELECT set_config('pgpubsub.notification_context', %s, true)"
_GET = "SELECT current_setting('pgpubsub.notification_context', true)"


def set_notification_context(context: Mapping[str, Any], using: str | None = None) -> None:
    """Let *context* travel beside every notification of this transaction, in place of any other.

    Raises :class:`TransactionRequired` outside a transaction. Does nothing in a transaction
    that has failed, where nothing can be sent any more.
    """
    connection = connections[using or DEFAULT_DB_ALIAS]
    if _is_aborted(connection):
        return
    if not connection.in_atomic_block:
        raise TransactionRequired(
            "The notification context lasts for one transaction, and none is open. Call this "
            "inside transaction.atomic(), or use notification_context(), which opens one."
        )
    with connection.cursor() as cursor:
        cursor.execute(_SET, [json.dumps(dict(context), cls=DjangoJSONEncoder)])


@contextmanager
def notification_context(context: Mapping[str, Any], *, using: str | None = None) -> Iterator[None]:
    """Let *context*, merged into that of an outer block, travel beside every notification.

    ::

        with pgpubsub_sql.notification_context({"user_id": request.user.pk}):
            post.save()

    Opens a transaction if there is none; on leaving, the outer context is back.
    """
    connection = connections[using or DEFAULT_DB_ALIAS]
    # Inside somebody's transaction no second atomic(): an exception that the caller means to
    # handle would mark all of it for rollback.
    opened = nullcontext() if connection.in_atomic_block else transaction.atomic(connection.alias)
    with opened:
        outer = _current(connection)
        set_notification_context(outer | dict(context), connection.alias)
        try:
            yield
        finally:
            set_notification_context(outer, connection.alias)


def _current(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return the context in force; what is no JSON object counts as none, as in the database."""
    with connection.cursor() as cursor:
        cursor.execute(_GET)
        (setting,) = cursor.fetchone()
    try:
        context = json.loads(setting or "{}")
    except ValueError:
        return {}
    return context if isinstance(context, dict) else {}


def _is_aborted(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction has failed; the driver knows before Django does."""
    if connection.needs_rollback:
        return True
    raw = connection.connection
    return raw is not None and int(raw.info.transaction_status) == _PQTRANS_INERROR
