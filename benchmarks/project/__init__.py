"""The Django project of the contestants that use Django."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

MIGRATIONS = "benchmark_migrations"


def configure(*apps: str, **settings: Any) -> None:
    """Set Django up on the database that libpq's variables name."""
    import django
    from django.conf import settings as django_settings

    django_settings.configure(
        SECRET_KEY="of a benchmark",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.contenttypes", *apps, "benchmarks.project"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": os.environ["PGDATABASE"],
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGGING_CONFIG=None,
        **settings,
    )
    django.setup()


def migrate() -> None:
    """Write the migrations of this app and run them, as a project would."""
    from django.core.management import call_command
    from django.test import override_settings

    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory, MIGRATIONS)
        package.mkdir()
        (package / "__init__.py").touch()
        sys.path.insert(0, directory)
        with override_settings(MIGRATION_MODULES={"project": MIGRATIONS}):
            call_command("makemigrations", "project", verbosity=0)
            call_command("migrate", verbosity=0)
        sys.path.remove(directory)
