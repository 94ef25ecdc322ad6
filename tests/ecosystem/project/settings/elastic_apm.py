"""elastic-apm, an app and a middleware; it wraps each connection that a driver makes."""

from .base import *

INSTALLED_APPS = [*INSTALLED_APPS, "elasticapm.contrib.django"]
MIDDLEWARE = ["elasticapm.contrib.django.middleware.TracingMiddleware", *MIDDLEWARE]
ELASTIC_APM = {
    "SERVICE_NAME": "shop",
    "DISABLE_SEND": True,
    "CENTRAL_CONFIG": False,
    "CLOUD_PROVIDER": "none",
}


def is_in_use(connection):
    return type(connection.connection).__module__.startswith("elasticapm")
