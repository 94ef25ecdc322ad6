"""Which triggers the code declares."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from pgpubsub_sql.channels import TriggerChannel, app_label, model_of
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.history import Triggers
from pgpubsub_sql.migrations_ops.options import specified
from pgpubsub_sql.sql.trigger import EVENTS, Trigger


def declared() -> Triggers:
    """Return what the listeners of this project want installed, by the app of the channel."""
    return {
        (app_label(channel), channel.postgres_name()): trigger
        for channel in registry.channels()
        if issubclass(channel, TriggerChannel) and (trigger := specify(channel)).triggers()
    }


def specify(channel: type[TriggerChannel]) -> Trigger:
    """Return the specification of *channel* with the union of its listeners' events.

    Raises :class:`OptionError` for an option that does not fit the model.
    """
    model = model_of(channel)
    wanted = {event for listener in registry.listeners_of(channel) for event in listener.events}
    return Trigger(
        channel=channel.postgres_name(),
        model=(model._meta.concrete_model or model)._meta.label_lower,  # not a proxy's
        after=tuple(event for event in EVENTS if f"after_{event}" in wanted),
        before=tuple(event for event in EVENTS if f"before_{event}" in wanted),
        durable=channel.lock_notifications,
        **specified(channel),
    )


def owner(model: type[Model]) -> tuple[str, str]:
    """Return app and name of the model whose operations make the table of *model*.

    The table of a ManyToManyField comes and goes with the model that has the field.
    """
    creator: Any = model._meta.auto_created or model
    return creator._meta.app_label, creator._meta.model_name
