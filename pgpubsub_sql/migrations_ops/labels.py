"""Migrations that name apps by labels that are no longer in use, as after an app was renamed."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.exceptions import NodeNotFoundError
from django.db.migrations.loader import MigrationLoader

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.history import Change, History, flat, read

REMEDY = (
    "Where an app has been renamed, or has another label now, write the new label in all of these "
    "places. Where it is gone for good, remove the dependency alone. Then run makemigrations."
)


class Misnamed(NamedTuple):
    """One place in a migration that names an app by a label that is not in use."""

    place: str
    """File and lines."""
    what: str
    """The part of the migration that names it, for people."""
    label: str
    name: str
    """Of the migration, or the model, of that app."""
    is_model: bool

    def describe(self, new: str | None) -> str:
        """Return what is wrong, and what to write if *new* is the label to write."""
        wrong = f"{self.place}: {self.what}, but no installed app has the label {self.label!r}."
        if new is None:
            return wrong
        written = f"'{new}.{self.name}'" if self.is_model else f"('{new}', '{self.name}')"
        return f"{wrong} If it is {new!r} now, write {written}."


def load(connection: BaseDatabaseWrapper | None = None) -> MigrationLoader:
    """Return the migrations in their order.

    Raises :class:`NotReady`, and says what to edit, where they depend on what is not there.
    """
    try:
        return MigrationLoader(connection)
    except (NodeNotFoundError, ValueError) as error:  # the latter for __first__ of no app
        problems = _described([*_misnamed(_on_disk())])
        if not problems and isinstance(error, ValueError):
            raise
        raise NotReady(" ".join([*problems, REMEDY] if problems else [str(error)])) from error


def read_from_disk() -> History:
    """Return the history that the migrations tell which are there now, applied or not.

    Raises :class:`NotReady` as :func:`load` does.
    """
    return read(load().graph)


def unusable_labels() -> list[str]:
    """Describe the places where migrations with triggers name apps that are not installed.

    None if the migrations can be loaded nevertheless.
    """
    try:
        found = [*_misnamed(_on_disk())]
    except Exception:  # noqa: BLE001 - Django reports whatever else is wrong with a migration
        return []
    return _described(found) if found and not _is_complete() else []


def _is_complete() -> bool:
    """Whether the migrations can be put in order, as where a squashed one replaces those."""
    try:
        MigrationLoader(None)
    except (NodeNotFoundError, ValueError):
        return False
    return True


def _on_disk() -> list[Migration]:
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    return [migration for _, migration in sorted(loader.disk_migrations.items())]


def _misnamed(migrations: list[Migration]) -> Iterator[Misnamed]:
    """Yield the places that keep the migrations of triggers, or those that wait for them, from
    being loaded."""
    changes = {id(one): [*_changes(one)] for one in migrations}
    channels = {change.channel.partition(".")[0] for found in changes.values() for change in found}
    for migration in migrations:
        for label, name in dict.fromkeys([*migration.dependencies, *migration.run_before]):
            if label not in apps.app_configs and (changes[id(migration)] or label in channels):
                what = f"it depends on ({label!r}, {name!r})"
                pattern = rf"""(["']){re.escape(label)}\1\s*,\s*(["']){re.escape(name)}\2"""
                yield Misnamed(_place(migration, pattern), what, label, name, is_model=False)
        for model in sorted({change.model for change in changes[id(migration)]}):
            label, _, name = model.partition(".")
            if label not in apps.app_configs:
                what = f"it has triggers on {model!r}"
                pattern = rf"""(["']){re.escape(model)}\1"""
                yield Misnamed(_place(migration, pattern), what, label, name, is_model=True)


def _changes(migration: Migration) -> Iterator[Any]:
    """Yield the specifications in our operations."""
    for operation in flat(migration.operations):
        if isinstance(operation, Change):
            yield from (one for one in (operation.before, operation.after) if one)


def _described(found: list[Misnamed]) -> list[str]:
    labels = {one.label for one in found}
    new = {label: _renamed_to([one for one in found if one.label == label]) for label in labels}
    return [one.describe(new[one.label]) for one in found]


def _renamed_to(found: list[Misnamed]) -> str | None:
    """Return the label of the only app that has all that is looked for under the old one."""
    migrations = {(one.app_label, one.name) for one in _on_disk()}
    fitting = [
        config.label
        for config in apps.get_app_configs()
        if all(
            one.name in config.models if one.is_model else (config.label, one.name) in migrations
            for one in found
            if not one.name.startswith("__")
        )
    ]
    return fitting[0] if len(fitting) == 1 else None


def _place(migration: Migration, pattern: str) -> str:
    """Return the file of *migration*, and the lines where *pattern* finds something in it."""
    path = inspect.getsourcefile(sys.modules[migration.__module__])
    if path is None or not Path(path).exists():
        return str(migration)
    source = Path(path).read_text(encoding="utf-8")
    shown = Path(path)
    if shown.is_relative_to(Path.cwd()):
        shown = shown.relative_to(Path.cwd())
    found = re.finditer(pattern, source, re.IGNORECASE)
    lines = [str(source.count("\n", 0, one.start()) + 1) for one in found]
    return f"{shown}:{','.join(lines)}" if lines else str(shown)
