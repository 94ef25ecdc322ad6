"""How a project leaves this package, and keeps its tables."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader

from pgpubsub_sql.channels import declared_channels, dotted_path
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops.editing import mentions
from pgpubsub_sql.migrations_ops.labels import read_from_disk
from pgpubsub_sql.sql import render
from pgpubsub_sql.sql.catalogue import InstalledFunction, installed_functions
from pgpubsub_sql.sql.readiness import check_ready

_SHOWN = 5
"""How many of many are named."""


def refuse_to_take_away(
    using: str, plan: Iterable[tuple[Migration, bool]] = (), **kwargs: Any
) -> None:
    """Let ``migrate pgpubsub_sql zero`` end before it takes anything of the project away."""
    unapplied = [migration for migration, backwards in plan if backwards]
    if not any(migration.app_label == APP for migration in unapplied):
        return
    if others := [str(one) for one in unapplied if one.app_label != APP]:
        raise CommandError(
            f"Django would first unapply what depends on {APP}, and drop its tables: "
            f"{_listed(others)}. To leave {APP} and keep them, run: python manage.py pgpubsub "
            f"leave. To have them unapplied, migrate their apps to zero first."
        )
    if functions := _installed(connections[using]):
        raise CommandError(
            f"Without the tables of {APP}, triggers that are installed in the database {using!r} "
            f"would make every write fail. Run the migrations that remove them. If there are none "
            f"any more, execute {_dropping(functions)}"
        )


def check_unused(connection: BaseDatabaseWrapper) -> None:
    """Raise :class:`NotReady`, and say what to do next, as long as something needs this package."""
    if paths := [dotted_path(channel) for channel in declared_channels()]:
        raise NotReady(
            f"Channels are still declared: {_listed(paths)}. Delete them and their listeners. Then "
            "run: python manage.py makemigrations, and python manage.py migrate"
        )
    if triggers := read_from_disk().triggers:
        raise NotReady(
            "The migrations still install the triggers of "
            f"{_listed(channel for _, channel in triggers)}. Run: python manage.py makemigrations, "
            "and python manage.py migrate"
        )
    if functions := _installed(connection):
        raise NotReady(
            f"Triggers are still installed in the database {connection.alias!r}. Run: python "
            f"manage.py migrate --database {connection.alias}. For what is left after that, "
            f"execute {_dropping(functions)}"
        )


def dependents() -> Iterator[Path]:
    """Yield the files of the migrations that need this package, but for its own."""
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    for (label, _), migration in sorted(loader.disk_migrations.items()):
        path = inspect.getsourcefile(sys.modules[migration.__module__])
        if label != APP and path and mentions(Path(path).read_bytes()):
            yield Path(path)


def _installed(connection: BaseDatabaseWrapper) -> list[InstalledFunction]:
    """Return the functions of channels in the schema that *connection* works in."""
    try:
        schema = check_ready(connection)
    except NotReady:
        return []
    return [one for one in installed_functions(connection).values() if one.schema == schema]


def _dropping(functions: Iterable[InstalledFunction]) -> str:
    """Return the SQL that drops functions, and with them the triggers that call them.

    Those of apps that this project has not are named alone: they may be another project's.
    """
    labels = {None, *(config.label for config in apps.get_app_configs())}
    found = [*functions]
    ours = [one for one in found if one.app in labels]
    dropped = " ".join(
        render("triggers/drop_function", schema=one.schema, function=one.name) for one in ours
    )
    if len(ours) == len(found):
        return dropped
    others = _listed(one.name for one in found if one not in ours)
    return f"{dropped} (Of apps that this project has not, there are also {others}.)".lstrip()


def _listed(names: Iterable[str]) -> str:
    shown = [*names]
    return ", ".join(shown[:_SHOWN]) + (", …" if len(shown) > _SHOWN else "")
