"""PostGIS' engine."""

from .base import *

INSTALLED_APPS = ["django.contrib.gis", *INSTALLED_APPS]
DATABASES["default"]["ENGINE"] = "django.contrib.gis.db.backends.postgis"


def is_in_use(connection):
    return "postgis" in type(connection).__module__
