"""What ``migrate`` installs for apps that have no migrations, as in tests that run without them.

Such are the apps whose ``MIGRATION_MODULES`` is None, as ``--nomigrations`` and ``TEST["MIGRATE"]``
have it, and those that lack the package. Our own may be among them.
"""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.migrations_ops.repair import install
from pgpubsub_sql.migrations_ops.shared import operations
from pgpubsub_sql.migrations_ops.state import declared


def install_unmigrated(using: str, **kwargs: Any) -> None:
    """Install what no migration has, where its tables are."""
    connection, unmigrated = connections[using], _unmigrated_apps()
    if connection.vendor == "postgresql" and APP in unmigrated:
        _install_helpers(connection)
    if any(label in unmigrated for label, _ in declared()):
        _install_triggers(connection)


def _install_helpers(connection: BaseDatabaseWrapper) -> None:
    with connection.schema_editor(atomic=True) as editor:
        for operation in operations():
            operation.database_forwards(APP, editor)


def _install_triggers(connection: BaseDatabaseWrapper) -> None:
    try:
        found = audit(connection)
    except NotReady:
        return  # no database for channels
    install(connection, found, [key for key in found.installable() if key in found.unmigrated])


def _unmigrated_apps() -> set[str]:
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    return loader.unmigrated_apps
