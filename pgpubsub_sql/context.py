"""The notification context: a mapping that travels with every message of a transaction.

It is kept in the PostgreSQL setting ``pgpubsub.notification_context``, which plain SQL can set with
``SET LOCAL``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from pgpubsub_sql import conf
from pgpubsub_sql.errors import PayloadError, TransactionRequired
from pgpubsub_sql.sql import holds_nul
from pgpubsub_sql.transaction_settings import (
    changed_setting,
    connection_of,
    is_in_transaction,
    write_setting,
)

_SETTING = "pgpubsub.notification_context"


def set_notification_context(context: Mapping[str, Any], using: str | None = None) -> None:
    """Send *context* with every notification of this transaction, instead of any other context.

    Raises :class:`TransactionRequired` outside a transaction, and :class:`PayloadError` if
    *context* cannot be JSON. Does nothing in a failed transaction, in which nothing can be sent.

    With ``PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False`` the context lasts as long as the
    connection and needs no transaction.
    """
    connection = connection_of(using, sends=False)
    local = conf.is_context_bound_to_transaction()
    if local and not is_in_transaction(connection):
        raise TransactionRequired(
            "The notification context lasts for one transaction, and none is open. Call this "
            "inside transaction.atomic(), or use notification_context(), which opens one."
        )
    write_setting(connection, _SETTING, _encode(context), local=local)


def notification_context(
    context: Mapping[str, Any], *, using: str | None = None
) -> AbstractContextManager[None]:
    """Send *context*, merged into that of an outer block, with every notification.

    ::

        with pgpubsub_sql.notification_context({"user_id": request.user.pk}):
            post.save()

    Opens a transaction if none is open, and restores the outer context on exit. Does nothing in a
    failed transaction. Raises :class:`PayloadError` if *context* cannot be JSON.
    """
    return changed_setting(
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
    """Return the context in a setting; empty if it is not a JSON object, as in the database."""
    try:
        context = json.loads(setting or "{}")
    except (ValueError, RecursionError):
        return {}
    return context if isinstance(context, dict) else {}
