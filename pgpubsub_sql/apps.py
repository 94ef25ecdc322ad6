"""The app's config: discovery of channels and listeners, checks, and hooks around migrations."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate, pre_save
from django.utils.module_loading import autodiscover_modules

from pgpubsub_sql import checks
from pgpubsub_sql.migrations_ops import autodetector, maintenance, package_removal


class PgPubSubConfig(AppConfig):
    """Put ``"pgpubsub_sql"`` into INSTALLED_APPS."""

    name = "pgpubsub_sql"
    verbose_name = "PostgreSQL publish/subscribe"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import every app's channels and listeners, and hook into ``makemigrations`` and
        ``migrate``."""
        autodiscover_modules("channels")
        autodiscover_modules("listeners")
        autodetector.install()
        pre_migrate.connect(package_removal.refuse_unsafe_unapply, sender=self)
        post_migrate.connect(maintenance.install_unmigrated, sender=self)
        post_migrate.connect(maintenance.follow_declarations, sender=self)
        post_migrate.connect(maintenance.register_subscriptions, sender=self)
        for model in ("Notification", "LongPayload"):
            pre_save.connect(_give_new_id, sender=f"pgpubsub_sql.{model}")
        checks.register()


def _give_new_id(instance: Any, raw: bool = False, **kwargs: Any) -> None:
    """Give a message that a fixture loads an id of its own.

    Its old id may belong to another message by now, which it would overwrite, or the sequence may
    reach it later, and somebody's write would fail.
    """
    if raw:
        instance.pk = None
