"""Checks of code that still uses django-pgpubsub, or expects what it did: E012, W007 to W009."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core import checks

from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    TriggerChannel,
    declared_channels,
    dotted_path,
)
from pgpubsub_sql.django_internals import LoadedMigrations
from pgpubsub_sql.installed import APP, PREDECESSOR, is_predecessor_installed

_REMEDIES = {
    "name": "Set channel_name if the name in PostgreSQL must stay.",
    "listen_safe_name": "Set channel_name to what it returned.",
    "serialize": "Declare fields of the types that you send.",
    "deserialize": "Declare fields of the types that you send.",
}
"""The methods that django-pgpubsub calls on a channel, and what to do instead."""


def check_predecessor_code(**kwargs: Any) -> list[checks.CheckMessage]:
    """E012, W007, W008 and W009: does code still use django-pgpubsub, or expect what it did?"""
    return [*_dependencies(), *_old_listeners(), *_overrides(), *_commands()]


def _dependencies() -> Iterator[checks.CheckMessage]:
    """Yield an error for each migration that depends on an app that is gone."""
    if PREDECESSOR in apps.app_configs:
        return
    try:
        migrations = sorted(LoadedMigrations.read().on_disk.items())
    except Exception:  # noqa: BLE001 - Django reports what is wrong with a migration
        return
    for (label, name), migration in migrations:
        if any(needed == PREDECESSOR for needed, _ in migration.dependencies):
            yield checks.Error(
                f"The migration {label}.{name} depends on one of django-pgpubsub, which is not an "
                "installed app.",
                hint='Add "pgpubsub_sql.compat" to INSTALLED_APPS: it has migrations of the same '
                "names.",
                id="pgpubsub_sql.E012",
            )


def _old_listeners() -> Iterator[checks.CheckMessage]:
    registry: dict[type, list[Any]] = getattr(sys.modules.get("pgpubsub.channel"), "registry", {})
    for channel, callbacks in registry.items():
        for callback in callbacks:
            yield checks.Warning(
                f"{callback.__module__}.{callback.__qualname__} listens to {dotted_path(channel)} "
                "with django-pgpubsub, so workers of pgpubsub_sql do not call it.",
                hint="Import the decorator and the channel's base class from pgpubsub_sql.",
                id="pgpubsub_sql.W007",
            )


def _overrides() -> Iterator[checks.CheckMessage]:
    for channel in declared_channels():
        for name, remedy in _REMEDIES.items():
            if _is_method(_found(channel, name)):
                yield checks.Warning(
                    f"{dotted_path(channel)} defines {name}(), which django-pgpubsub called. "
                    "Nobody calls it now.",
                    hint=f"Remove it. {remedy}",
                    id="pgpubsub_sql.W008",
                )


def _found(channel: type[BaseChannel], name: str) -> object:
    for base in channel.__mro__:
        if base not in (Channel, TriggerChannel, BaseChannel) and name in vars(base):
            return vars(base)[name]
    return None


def _is_method(found: object) -> bool:
    return callable(found) or isinstance(found, (classmethod, staticmethod))


def _commands() -> Iterator[checks.CheckMessage]:
    if is_predecessor_installed() and apps.is_installed(APP):
        names = [config.name for config in apps.get_app_configs()]
        first = min(APP, PREDECESSOR, key=names.index)
        yield checks.Warning(
            f"pgpubsub_sql and django-pgpubsub are both installed, and both have a command "
            f"listen: manage.py listen is that of {first}, and serves no channel of the other.",
            hint="Start the other worker with settings whose INSTALLED_APPS name its app first.",
            id="pgpubsub_sql.W009",
        )
