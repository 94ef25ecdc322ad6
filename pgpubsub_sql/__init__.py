"""Typed publish/subscribe for Django on PostgreSQL."""

from typing import TYPE_CHECKING, Any

from pgpubsub_sql.batches import PartialFailure, batch_listener
from pgpubsub_sql.channels import Channel, TriggerChannel
from pgpubsub_sql.context import notification_context, set_notification_context
from pgpubsub_sql.filters import ListenerFilterProvider
from pgpubsub_sql.ignoring import ignore
from pgpubsub_sql.installed import require_installed
from pgpubsub_sql.listeners import (
    listener,
    post_delete_listener,
    post_insert_listener,
    post_save_listener,
    post_truncate_listener,
    post_update_listener,
    pre_delete_listener,
    pre_insert_listener,
    pre_save_listener,
    pre_update_listener,
    trigger_listener,
)
from pgpubsub_sql.notify import anotify, notify, notify_many, process_stored_notifications
from pgpubsub_sql.retry import Discard, Retry, RetryAfter
from pgpubsub_sql.rows import Change

if TYPE_CHECKING:
    from pgpubsub_sql.models import Handled, Notification

__all__ = [
    "Change",
    "Channel",
    "Discard",
    "Handled",
    "ListenerFilterProvider",
    "Notification",
    "PartialFailure",
    "Retry",
    "RetryAfter",
    "TriggerChannel",
    "anotify",
    "batch_listener",
    "ignore",
    "listener",
    "notification_context",
    "notify",
    "notify_many",
    "post_delete_listener",
    "post_insert_listener",
    "post_save_listener",
    "post_truncate_listener",
    "post_update_listener",
    "pre_delete_listener",
    "pre_insert_listener",
    "pre_save_listener",
    "pre_update_listener",
    "process_stored_notifications",
    "set_notification_context",
    "trigger_listener",
]


def __getattr__(name: str) -> Any:
    # Models can only be imported after the app registry is loaded, which imports this package.
    if name in ("Handled", "Notification"):
        require_installed()
        from pgpubsub_sql import models

        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
