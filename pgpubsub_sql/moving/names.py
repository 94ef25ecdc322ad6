"""What each name of django-pgpubsub 1.3 is called now, or what to do without one."""

from __future__ import annotations

OLD = "pgpubsub"
NEW = "pgpubsub_sql"

_TIMINGS = ("pre", "post")
_EVENTS = ("insert", "update", "delete", "save")
_BY_MODULE = {
    "channel": ("Channel", "TriggerChannel", "set_notification_context"),
    "listeners": (
        "listener",
        "trigger_listener",
        "ListenerFilterProvider",
        *(f"{when}_{event}_listener" for when in _TIMINGS for event in _EVENTS),
    ),
    "notify": ("notify", "process_stored_notifications"),
}

COUNTERPARTS: dict[str, tuple[str, str]] = {
    **{
        f"{module}.{name}": (NEW, name)
        for submodule, names in _BY_MODULE.items()
        for name in names
        for module in (OLD, f"{OLD}.{submodule}")
    },
    "pgpubsub.models.Notification": (NEW, "Notification"),
    "pgpubsub.channel.ChannelNotFound": ("pgpubsub_sql.errors", "ChannelNotFound"),
}
"""Module and name now, by the dotted name in django-pgpubsub."""

_WORKER = "Run manage.py listen; in tests, handle messages with pgpubsub_sql.testing."
REMEDIES = {
    "pgpubsub.channel.BaseChannel": "Derive from Channel or TriggerChannel.",
    "pgpubsub.channel.locate_channel": "Decorators and notify() take the path of a channel.",
    "pgpubsub.channel.registry": "manage.py pgpubsub ls lists channels and listeners.",
    "pgpubsub.channel": "Import Channel, TriggerChannel or set_notification_context by name.",
    "pgpubsub.triggers": "Give events= and when= to trigger_listener(), and no trigger.",
    "pgpubsub.listen": _WORKER,
    "pgpubsub.models": "Import Notification from pgpubsub_sql.",
}
"""What to do about a name that has no counterpart, by the name or the module that has it."""

LOGGERS = {
    "pgpubsub": "pgpubsub_sql",
    "pgpubsub.listen": "pgpubsub_sql.worker",
}
"""The loggers that have a counterpart: sending is not logged."""

APPS = {"pgpubsub": NEW, "pgpubsub.apps.PgpubsubConfig": NEW}
"""Entries of INSTALLED_APPS."""

ATTRIBUTES = {
    "listen_safe_name": "The name in PostgreSQL is postgres_name(); channel_name sets it.",
    "build_from_payload": "Workers decode messages; the fields' types say how.",
    "execute_callbacks": "In tests, pgpubsub_sql.testing handles messages.",
    "__post_init__": "It runs, but the base class has none: remove super().__post_init__().",
    "db_version": "Use created_at, or Notification.objects.before_migration().",
}
"""Attributes that have no counterpart."""

METHODS = ("name", "listen_safe_name", "serialize", "deserialize")
"""Methods of a channel's class that nobody calls."""


def remedy(name: str) -> str:
    """Return what to do about the dotted *name*, which has no counterpart."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if found := REMEDIES.get(".".join(parts[:length])):
            return found
    return "It has no counterpart."
