"""The app's config."""

from __future__ import annotations

from django.apps import AppConfig


class CompatConfig(AppConfig):
    """Migrations by the names of django-pgpubsub's, and nothing else."""

    name = "pgpubsub_sql.compat"
    label = "pgpubsub"
    verbose_name = "django-pgpubsub, which has moved to pgpubsub_sql"
    default_auto_field = "django.db.models.AutoField"
