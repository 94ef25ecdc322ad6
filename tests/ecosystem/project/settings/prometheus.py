"""django-prometheus: its engine counts queries, by cursors of its own class."""

from .base import *

INSTALLED_APPS = [*INSTALLED_APPS, "django_prometheus"]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    *MIDDLEWARE,
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
DATABASES["default"]["ENGINE"] = "django_prometheus.db.backends.postgresql"


def is_in_use(connection):
    with connection.connection.cursor() as cursor:
        return type(cursor).__module__.startswith("django_prometheus")
