"""Sentry for web and worker processes; a page of the documentation shows this file."""

from typing import Any

import sentry_sdk


def with_tags(event: Any, hint: dict[str, Any]) -> Any:
    """Make what is known of a failed message searchable, and keep its attempts together."""
    record = hint.get("log_record")
    if channel := getattr(record, "channel", ""):
        listener = getattr(record, "listener", "")
        event.setdefault("tags", {}).update(channel=channel, listener=listener)
        event["fingerprint"] = ["{{ default }}", channel, listener]
    return event


def track(dsn: str, **options: Any) -> None:
    """Report errors to Sentry. Call it in the settings; with an empty *dsn* nothing is sent."""
    sentry_sdk.init(dsn=dsn, before_send=with_tags, **options)
