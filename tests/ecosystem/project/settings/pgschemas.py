"""django-pgschemas: a schema for each tenant, held in a context variable."""

from contextvars import copy_context
from functools import partial

from .base import *

TENANT = {"APPS": INSTALLED_APPS, "URLCONF": "shop.urls"}
TENANTS = {
    "public": {"APPS": ["django.contrib.contenttypes"]},
    "acme": TENANT | {"DOMAINS": ["acme.invalid"]},
    "globex": TENANT | {"DOMAINS": ["globex.invalid"]},
}
INSTALLED_APPS = ["django_pgschemas", *INSTALLED_APPS]
DATABASES["default"]["ENGINE"] = "django_pgschemas.postgresql"
DATABASE_ROUTERS = ["django_pgschemas.routers.TenantAppsRouter"]


def is_in_use(connection):
    from django_pgschemas.schema import get_current_schema

    return get_current_schema().schema_name in ("acme", "globex")


def leave_behind(connection):
    """Turn to the other tenant."""
    from django_pgschemas.schema import Schema, activate, get_current_schema

    other = {"acme": "globex", "globex": "acme"}[get_current_schema().schema_name]
    activate(Schema.create(other))


def of_this_tenant(callback):
    """A callback has the context of its message, and so the tenant that was chosen last."""
    return partial(copy_context().run, callback)
