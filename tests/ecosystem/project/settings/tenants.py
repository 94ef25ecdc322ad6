"""django-tenants: a schema for each tenant, whose listeners may turn to another one."""

from .base import *

SHARED_APPS = ["django_tenants", "customers", "django.contrib.contenttypes"]
TENANT_APPS = [app for app in INSTALLED_APPS if app != "django.contrib.contenttypes"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL = "customers.Client"
TENANT_DOMAIN_MODEL = "customers.Domain"
DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]


def is_in_use(connection):
    return connection.schema_name in ("acme", "globex")


def leave_behind(connection):
    """Turn to the other tenant."""
    connection.set_schema("globex" if connection.schema_name == "acme" else "acme")
