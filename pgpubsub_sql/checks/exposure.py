"""Check of what ephemeral trigger channels let every role read: W203."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.db import models

from pgpubsub_sql.channels import TriggerChannel, dotted_path, model_of
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.declared_triggers import option_values

MANY_TEXTS = 5
"""A channel that sends every column is reported if it has this many text columns."""

_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|\b(api|private|access|session) ?key"
    r"|\b(pin|otp|ssn|iban|cvv|cvc)\b",
    re.IGNORECASE,
)


def check_exposure(**kwargs: Any) -> list[checks.CheckMessage]:
    """W203: do ephemeral trigger channels send what not everybody should read?"""
    return [problem for channel in registry.channels() for problem in _exposed(channel)]


def _exposed(channel: Any) -> Iterator[checks.CheckMessage]:
    if not issubclass(channel, TriggerChannel) or channel.lock_notifications:
        return
    try:
        fields = _sent_fields(channel)
    except (AttributeError, LookupError, ValueError):
        return  # other checks report what is wrong with its model and options
    secret = [field.name for field in fields if _SECRET.search(_words(field.name))]
    texts = [field.name for field in fields if _is_text(field)]
    if secret:
        what = f"the fields {', '.join(secret)}, which look like secrets"
    elif channel.columns is None and len(texts) >= MANY_TEXTS:
        what = f"many text fields: {', '.join(texts)}"
    else:
        return
    yield checks.Warning(
        f"{dotted_path(channel)} is ephemeral, so any role that can connect to the database can "
        f"LISTEN and read what it sends of {model_of(channel)._meta.label}: {what}.",
        hint=(
            "Leave them out with columns or exclude (columns = () sends the primary key alone), or "
            "set lock_notifications = True: durable channels keep messages in a table, which is "
            "protected by privileges."
        ),
        id="pgpubsub_sql.W203",
    )


def _sent_fields(channel: type[TriggerChannel]) -> list[models.Field[Any, Any]]:
    columns = option_values(channel)["columns"]
    model = model_of(channel)
    fields = (model._meta.concrete_model or model)._meta.local_concrete_fields
    return [field for field in fields if columns is None or field.column in columns]


def _words(name: str) -> str:
    """Return *name* with spaces for ``_``, which ``\\b`` counts as a letter."""
    return name.replace("_", " ")


def _is_text(field: models.Field[Any, Any]) -> bool:
    return isinstance(field, models.CharField | models.TextField) and not field.choices
