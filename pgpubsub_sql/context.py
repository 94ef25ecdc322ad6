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

from pgpubsub_sql.errors import PayloadError, TransactionRequired
from pgpubsub_sql.sql import holds_nul, query

_DEAD = (3, 4)
"""libpq's numbers, the same under both drivers: PQTRANS_INERROR, a transaction that has failed,
and PQTRANS_UNKNOWN, a connection that is lost."""


def set_notification_context(context: Mapping[str, Any], using: str | None = None) -> None:
    """Let *context* travel beside every notification of this transaction, in place of any other.

    Raises :class:`TransactionRequired` outside a transaction, :class:`PayloadError` for what is
    no JSON. Does nothing in a transaction that has failed, where nothing can be sent any more.
    """
    connection = connections[using or DEFAULT_DB_ALIAS]
    if not connection.in_atomic_block:
        raise TransactionRequired(
            "The notification context lasts for one transaction, and none is open. Call this "
            "inside transaction.atomic(), or use notification_context(), which opens one."
        )
    _write(connection, _encode(context))


@contextmanager
def notification_context(context: Mapping[str, Any], *, using: str | None = None) -> Iterator[None]:
    """Let *context*, merged into that of an outer block, travel beside every notification.

    ::

        with pgpubsub_sql.notification_context({"user_id": request.user.pk}):
            post.save()

    Opens a transaction if there is none; on leaving, the outer context is back. Does nothing in
    a transaction that has failed. Raises :class:`PayloadError` for what is no JSON.
    """
    connection = connections[using or DEFAULT_DB_ALIAS]
    if _is_dead(connection):
        yield
        return
    # Inside somebody's transaction no second atomic(): an exception that the caller means to
    # handle would mark all of it for rollback.
    opened = nullcontext() if connection.in_atomic_block else transaction.atomic(connection.alias)
    with opened:
        outer = _read(connection)
        _write(connection, _encode(_decode(outer) | dict(context)))
        try:
            yield
        finally:
            _write(connection, outer)


def _encode(context: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(context), cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"The notification context cannot travel as JSON: {error}") from error
    if holds_nul(text):
        raise PayloadError("The notification context holds a NUL (\\u0000): remove it.")
    return text


def _decode(setting: str) -> dict[str, Any]:
    """Return the context a setting holds; what is no JSON object is none, as in the database."""
    try:
        context = json.loads(setting or "{}")
    except (ValueError, RecursionError):
        return {}
    return context if isinstance(context, dict) else {}


def _read(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute(query("get_context"))
        return str(cursor.fetchone()[0])


def _write(connection: BaseDatabaseWrapper, setting: str) -> None:
    if not _is_dead(connection):
        with connection.cursor() as cursor:
            cursor.execute(query("set_context"), {"context": setting})


def _is_dead(connection: BaseDatabaseWrapper) -> bool:
    """Whether the open transaction takes nothing more; the driver knows before Django does."""
    if not connection.in_atomic_block or connection.needs_rollback:
        return connection.needs_rollback
    return int(connection.connection.info.transaction_status) in _DEAD
