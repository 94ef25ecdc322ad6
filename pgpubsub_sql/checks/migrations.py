"""Checks of migrations: E010, E011, W002, W003 and W201."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core import checks
from django.db import connections, router
from django.db.models import Model

from pgpubsub_sql.channels import app_label, dotted_path, model_of
from pgpubsub_sql.checks.channels import model_problem, trigger_channels
from pgpubsub_sql.checks.databases import as_warnings
from pgpubsub_sql.django_internals import migrations_module
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops import stale_labels
from pgpubsub_sql.migrations_ops.audit import unwritten_problems


def check_migrations(**kwargs: Any) -> list[checks.CheckMessage]:
    """E011, W002 and W003: will migrations install the triggers?"""
    return [*_without_migrations(), *_not_on_postgresql()]


def check_app_labels(**kwargs: Any) -> list[checks.CheckMessage]:
    """E010: do migrations with triggers name only installed apps?"""
    return [
        checks.Error(problem, hint=stale_labels.REMEDY, id="pgpubsub_sql.E010")
        for problem in stale_labels.unusable_labels()
    ]


def check_unwritten(**kwargs: Any) -> list[checks.CheckMessage]:
    """W201: do the migrations install what the code declares?"""
    try:
        return as_warnings("The", [*unwritten_problems()], "W201")
    except NotReady:
        return []  # the migrations cannot be loaded: E010, or Django, says why


def _without_migrations() -> Iterator[checks.CheckMessage]:
    for channel in trigger_channels():
        if app_label(channel) not in apps.app_configs:
            yield checks.Error(
                f"No migration installs the trigger of {dotted_path(channel)}: its module belongs "
                "to no installed app.",
                hint="Move it to the channels.py of an app that is in INSTALLED_APPS.",
                id="pgpubsub_sql.E011",
            )
        elif problem := _migrations_problem(app_label(channel)):
            reason, hint = problem
            yield checks.Warning(
                f"No migration installs the trigger of {dotted_path(channel)}: {reason}",
                hint=hint,
                id="pgpubsub_sql.W002",
            )


def _migrations_problem(label: str) -> tuple[str, str] | None:
    """Return why makemigrations writes nothing for an app, and the remedy."""
    module = migrations_module(label)
    if module is None or _is_package(module):
        return None
    return (
        f"the app {label!r} has no migrations package. migrate installs the trigger, but nothing "
        "ever removes it.",
        f"Run: python manage.py makemigrations {label}",
    )


def _is_package(module: str) -> bool:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None


def _not_on_postgresql() -> Iterator[checks.CheckMessage]:
    for channel in trigger_channels():
        if model_problem(channel):
            continue  # E003
        if reason := _elsewhere(model_of(channel)):
            yield checks.Warning(
                f"The trigger of {dotted_path(channel)} is not installed: {reason}",
                hint="Route the model to PostgreSQL. Other databases send no messages.",
                id="pgpubsub_sql.W003",
            )


def _elsewhere(model: type[Model]) -> str | None:
    """Return where *model* is written to, unless it is PostgreSQL."""
    connection = connections[router.db_for_write(model)]
    if connection.vendor == "postgresql":
        return None
    if connection.vendor == "unknown":  # Django's word for a database without ENGINE
        return f"DATABASES has no database {connection.alias!r}."
    return (
        f"{model._meta.label} is written to the database {connection.alias!r}, which is "
        f"{connection.display_name}."
    )
