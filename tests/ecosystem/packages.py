"""The table: each package, how it is installed, started and told of, and what it is tried with."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from ctypes.util import find_library
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BOTH = ("psycopg2", "psycopg")
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))


def project_name(requirement: str) -> str:
    """Return what is required, without extras and versions."""
    return re.split(r"[\[<>=~]", requirement)[0]


def nothing() -> str:
    """Return why a package cannot be tried on this machine: there is no reason."""
    return ""


def postgis_programs() -> Path | None:
    """Return the programs of a server that has PostGIS, as Debian's packages install it."""
    found = sorted(Path("/usr/share/postgresql").glob("*/extension/postgis.control"))
    return Path("/usr/lib/postgresql", found[-1].parts[4], "bin") if found else None


def lack_of_postgis() -> str:
    """Return what PostGIS' engine misses here."""
    if not (find_library("gdal") and find_library("geos_c")):
        return "GDAL and GEOS are not installed"
    return "" if postgis_programs() else "the server's extension is not installed"


def lack_of_pgbouncer() -> str:
    """Return what PgBouncer misses here."""
    return "" if shutil.which("pgbouncer", path=SYSTEM_PATH) else "PgBouncer is not installed"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One row of the table, tried with each of its drivers."""

    name: str
    """As the documentation names it."""
    settings: str
    """The module of ``project/settings``."""
    requirements: tuple[str, ...] = ()
    """What pip installs, the package first."""
    drivers: tuple[str, ...] = BOTH
    wrapper: tuple[str, ...] = ()
    """The program that starts ``manage.py``, where the package brings one."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment."""
    scenario: str = "ordinary"
    """The function of :mod:`.scenario`."""
    lack: Callable[[], str] = nothing
    """Says what is missing on this machine, if anything is."""
    programs: Callable[[], Path | None] = lambda: None
    """Finds the server to run, unless any does."""
    apps: tuple[str, ...] = ("shop",)
    """Those of the project."""
    prefix: tuple[str, ...] = ()
    """The command that runs others in the schema of a tenant."""
    supervised: tuple[str, ...] = ()
    """What ``listen`` needs to be told, beside nothing."""
    migrations: tuple[str, ...] = ("migrate",)
    """What brings the tables."""
    pool_mode: str = ""
    """PgBouncer's, if it is in between."""

    @property
    def label(self) -> str:
        """A name for files, databases and the command line."""
        return self.name.lower().replace(" ", "-").replace(",", "").replace("'", "")

    @property
    def environment(self) -> str:
        """A name for the environment, which rows of one package share."""
        return project_name(self.requirements[0]) if self.requirements else "plain"


FORK = ("--worker-start-method", "fork")
TENANTS = (
    "migrate_schemas --shared",
    "create_tenant --schema_name=acme --domain-domain=acme.invalid --noinput",
    "create_tenant --schema_name=globex --domain-domain=globex.invalid --noinput",
)
OPENTELEMETRY = tuple(
    f"opentelemetry-instrumentation-{name}>=0.60b0" for name in ("django", "psycopg2", "psycopg")
)

PACKAGES = [
    Package(name="nothing else", settings="base"),
    Package(name="sentry-sdk", settings="sentry", requirements=("sentry-sdk",)),
    Package(
        name="ddtrace",
        settings="ddtrace",
        requirements=("ddtrace",),
        wrapper=("ddtrace-run",),
        variables={
            "DD_DBM_PROPAGATION_MODE": "full",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_SERVICE": "shop",
        },
    ),
    Package(
        name="newrelic",
        settings="newrelic",
        requirements=("newrelic",),
        wrapper=("newrelic-admin", "run-program"),
        variables={
            "NEW_RELIC_APP_NAME": "shop",
            "NEW_RELIC_DEVELOPER_MODE": "true",
            "NEW_RELIC_LICENSE_KEY": "0" * 40,
        },
    ),
    Package(name="elastic-apm", settings="elastic_apm", requirements=("elastic-apm",)),
    Package(
        name="OpenTelemetry",
        settings="opentelemetry",
        requirements=(*OPENTELEMETRY, "opentelemetry-sdk"),
    ),
    Package(
        name="django-debug-toolbar",
        settings="debug_toolbar",
        requirements=("django-debug-toolbar",),
    ),
    Package(name="django-prometheus", settings="prometheus", requirements=("django-prometheus",)),
    Package(
        name="django-db-geventpool",
        settings="geventpool",
        requirements=("django-db-geventpool", "gevent"),
    ),
    Package(
        name="django-db-geventpool, patched",
        settings="geventpool",
        requirements=("django-db-geventpool", "gevent"),
        variables={"PATCHED_BY_GEVENT": "1"},
        supervised=FORK,
    ),
    Package(
        name="django-db-connection-pool",
        settings="connection_pool",
        requirements=("django-db-connection-pool",),
    ),
    Package(
        name="PostGIS",
        settings="postgis",
        lack=lack_of_postgis,
        programs=postgis_programs,
    ),
    Package(
        name="django-postgres-extra",
        settings="psqlextra",
        requirements=("django-postgres-extra",),
    ),
    Package(
        name="django-tenants",
        settings="tenants",
        requirements=("django-tenants",),
        scenario="of_tenants",
        prefix=("tenant_command",),
        supervised=FORK,
        apps=("customers", "shop"),
        migrations=TENANTS,
    ),
    Package(
        name="django-tenants, TENANT_LIMIT_SET_CALLS",
        settings="tenants_cached",
        requirements=("django-tenants",),
        scenario="of_tenants",
        prefix=("tenant_command",),
        supervised=FORK,
        apps=("customers", "shop"),
        migrations=TENANTS,
    ),
    Package(
        name="django-pgschemas",
        settings="pgschemas",
        requirements=("django-pgschemas",),
        scenario="of_tenants",
        prefix=("runschema",),
        supervised=FORK,
    ),
    Package(
        name="psycopg's pool",
        settings="pool",
        requirements=("psycopg-pool",),
        drivers=("psycopg",),
    ),
    Package(
        name="PgBouncer, session mode",
        settings="base",
        lack=lack_of_pgbouncer,
        pool_mode="session",
    ),
    Package(
        name="PgBouncer, transaction mode",
        settings="base",
        lack=lack_of_pgbouncer,
        pool_mode="transaction",
        scenario="refused",
    ),
]
