"""django-postgres-extra: its engine and its manager."""

from .base import *

INSTALLED_APPS = ["django.contrib.postgres", "psqlextra", *INSTALLED_APPS]
DATABASES["default"]["ENGINE"] = "psqlextra.backend"
POSTGRES_EXTRA_AUTO_EXTENSION_SET_UP = False  # hstore, which our server does not have


def is_in_use(connection):
    return type(connection).__module__.startswith("psqlextra")
