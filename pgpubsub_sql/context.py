"""What travels beside every payload: a mapping kept in a setting of the transaction.

PostgreSQL knows it as ``pgpubsub.notification_context``, so people who write SQL can
``SET LOCAL`` it themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from pgpubsub_sql import conf, scope
from pgpubsub_sql.errors import PayloadError, TransactionRequired
from pgpubsub_sql.sql import holds_nul

_SETTING = "pgpubsub.notification_context"


def set_notification_context(context: Mapping[str, Any], using: str | None = None) -> None:
    """Let *context* travel beside every notification of this transaction, in place of any other.

    Raises :class:`TransactionRequired` outside a transaction, :class:`PayloadError` for what is
    no JSON. Does nothing in a transaction that has failed, where nothing can be sent any more.

    With ``PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False`` it lasts as long as the connection,
    and needs no transaction.
    """
    connection = scope.connection_of(using, sends=False)
    local = conf.is_context_bound_to_transaction()
    if local and not scope.is_in_transaction(connection):
        raise TransactionRequired(
            "The notification context lasts for one transaction, and none is open. Call this "
            "inside transaction.atomic(), or use notification_context(), which opens one."
        )
    scope.write(connection, _SETTING, _encode(context), local=local)


def notification_context(
    context: Mapping[str, Any], *, using: str | None = None
) -> AbstractContextManager[None]:
    """Let *context*, merged into that of an outer block, travel beside every notification.

    ::

        with pgpubsub_sql.notification_context({"user_id": request.user.pk}):
            post.save()

    Opens a transaction if there is none; on leaving, the outer context is back. Does nothing in
    a transaction that has failed. Raises :class:`PayloadError` for what is no JSON.
    """
    return scope.changed(
        _SETTING, lambda outer: _encode(_decode(outer) | dict(context)), using=using
    )


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
