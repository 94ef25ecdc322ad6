"""Loading of migrations, and diagnosis of those that name an app by a label no longer in use.

Renaming an app, or changing its label, leaves such labels in the migrations of other apps.
"""

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

from pgpubsub_sql.django_internals import INCONSISTENT, LoadedMigrations
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.recorded_triggers import (
    RecordedTriggers,
    TriggerChange,
    recorded_triggers,
    state_operations,
)

REMEDY = (
    "If an app was renamed or has another label now, write the new label in all of these places. "
    "If it is gone for good, remove only the dependency. Then run makemigrations."
)


class StaleLabel(NamedTuple):
    """A place in a migration that names an app by a label that is not in use."""

    place: str
    """File and line numbers."""
    what: str
    """What the migration says there, in words."""
    label: str
    name: str
    """Name of the migration, or of the model, of that app."""
    is_model: bool

    def describe(self, new: str | None) -> str:
        """Return what is wrong, and what to write if the label is *new* now."""
        wrong = f"{self.place}: {self.what}, but no installed app has the label {self.label!r}."
        if new is None:
            return wrong
        written = f"'{new}.{self.name}'" if self.is_model else f"('{new}', '{self.name}')"
        return f"{wrong} If it is {new!r} now, write {written}."


def load_migrations(connection: BaseDatabaseWrapper | None = None) -> LoadedMigrations:
    """Return the migrations on disk, and those applied to the database of *connection*.

    Raises :class:`NotReady`, saying what to edit, if one depends on a migration that is missing.
    """
    try:
        return LoadedMigrations.load(connection)
    except INCONSISTENT as error:
        problems = _described([*_stale_labels(_on_disk())])
        if not problems and isinstance(error, ValueError):
            raise
        raise NotReady(" ".join([*problems, REMEDY] if problems else [str(error)])) from error


def triggers_on_disk() -> RecordedTriggers:
    """Return the triggers that the migrations on disk record, applied or not.

    Raises :class:`NotReady` as :func:`load_migrations` does.
    """
    return recorded_triggers(load_migrations().graph)


def unusable_labels() -> list[str]:
    """Describe the places where migrations with triggers name apps that are not installed.

    None if the migrations can be loaded nevertheless.
    """
    try:
        found = [*_stale_labels(_on_disk())]
    except Exception:  # noqa: BLE001 - Django reports whatever else is wrong with a migration
        return []
    return _described(found) if found and not _is_complete() else []


def _is_complete() -> bool:
    """Whether the migrations load all the same, as where a squashed one replaces those found."""
    try:
        LoadedMigrations.load()
    except INCONSISTENT:
        return False
    return True


def _on_disk() -> list[Migration]:
    return [migration for _, migration in sorted(LoadedMigrations.read().on_disk.items())]


def _stale_labels(migrations: list[Migration]) -> Iterator[StaleLabel]:
    """Yield the labels that keep migrations with triggers, or their dependents, from loading."""
    changes = {id(one): [*_specifications(one)] for one in migrations}
    channels = {change.channel.partition(".")[0] for found in changes.values() for change in found}
    for migration in migrations:
        for label, name in dict.fromkeys([*migration.dependencies, *migration.run_before]):
            if label not in apps.app_configs and (changes[id(migration)] or label in channels):
                what = f"it depends on ({label!r}, {name!r})"
                pattern = rf"""(["']){re.escape(label)}\1\s*,\s*(["']){re.escape(name)}\2"""
                yield StaleLabel(_place(migration, pattern), what, label, name, is_model=False)
        for model in sorted({change.model for change in changes[id(migration)]}):
            label, _, name = model.partition(".")
            if label not in apps.app_configs:
                what = f"it has triggers on {model!r}"
                pattern = rf"""(["']){re.escape(model)}\1"""
                yield StaleLabel(_place(migration, pattern), what, label, name, is_model=True)


def _specifications(migration: Migration) -> Iterator[Any]:
    """Yield the trigger specifications in our operations."""
    for operation in state_operations(migration.operations):
        if isinstance(operation, TriggerChange):
            yield from (one for one in (operation.before, operation.after) if one)


def _described(found: list[StaleLabel]) -> list[str]:
    labels = {one.label for one in found}
    new = {label: _renamed_to([one for one in found if one.label == label]) for label in labels}
    return [one.describe(new[one.label]) for one in found]


def _renamed_to(found: list[StaleLabel]) -> str | None:
    """Return the label of the only app that has everything that *found* refers to."""
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
    """Return the file of *migration*, and the numbers of the lines that match *pattern*."""
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
