"""System checks: what would fail at the first message fails at ``manage.py check``.

| id   | reports                                                            |
|------|--------------------------------------------------------------------|
| E001 | a channel is defined in a way that cannot work                     |
| E002 | two channels have one name in PostgreSQL                           |
| E003 | a trigger channel has no model to watch                            |
| E004 | a listener names a channel that is not declared                    |
| E005 | a listener cannot be called with what its channel passes           |
| E006 | two functions listen under one path, or one under two              |
| E007 | a listener wants row events of a channel that has no rows          |
| E008 | an option of a trigger channel does not fit its model              |
| E009 | a trigger channel watches a table that no migration makes          |
| E010 | migrations with triggers name an app that is not installed        |
| E101 | a setting of ours has a value that cannot be used                  |
| E102 | channels are declared, and the app is not in INSTALLED_APPS        |
| E201 | a database cannot be reached (--database)                          |
| W002 | a trigger channel is declared where makemigrations writes nothing  |
| W003 | a trigger channel watches a model that is not on PostgreSQL        |
| W004 | a channel has an attribute that looks like an option misspelled    |
| W005 | a module of channels or listeners is not imported                  |
| W006 | a trigger channel has no listener, so no trigger is installed      |
| W101 | a notification context outlasts its transaction                    |
| W201 | migrations do not install what the code declares (--deploy)        |
| W202 | a database lacks what its migrations install (--database)          |
| W203 | an ephemeral trigger channel lets everybody read much (--deploy)   |
| W204 | a channel is not told what logical replication brings (--database) |
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model

from pgpubsub_sql import conf, discovery, filters, payloads, policies
from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    TriggerChannel,
    app_label,
    declared_channels,
    dotted_path,
    model_of,
)
from pgpubsub_sql.errors import ChannelNotFound, TemplateError
from pgpubsub_sql.installed import APP
from pgpubsub_sql.listeners import EXTRAS, Listener, field_names, registry
from pgpubsub_sql.migrations_ops import drift, exposure, labels, options, replication
from pgpubsub_sql.sql import quote_identifier

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def register() -> None:
    """Register the checks with Django; registering them again changes nothing."""
    for check in (
        check_channels,
        check_discovery,
        check_listeners,
        check_migrations,
        check_settings,
        labels.check_labels,
    ):
        checks.register(check, APP)
    checks.register(drift.check_written, APP, deploy=True)
    checks.register(exposure.check_exposed, APP, deploy=True)
    checks.register(drift.check_installed, APP, checks.Tags.database)
    checks.register(replication.check_replicated, APP, checks.Tags.database)


def check_channels(**kwargs: Any) -> list[checks.CheckMessage]:
    """E001, E002, E003, E008, E009 and W004: are the channels well declared?"""
    return [
        *(problem for channel in declared_channels() for problem in _definition(channel)),
        *(problem for channel in declared_channels() for problem in _misspelled(channel)),
        *_duplicate_names(),
        *(problem for channel in _triggers() for problem in _model(channel)),
        *(problem for channel in _triggers() for problem in _options(channel)),
        *_tables_of_others(),
    ]


def check_discovery(**kwargs: Any) -> list[checks.CheckMessage]:
    """W005 and W006: has everything been found, and does somebody listen?"""
    return [
        checks.Warning(found.text, hint=found.remedy, id=f"pgpubsub_sql.{code}")
        for code, look in (("W005", discovery.overlooked), ("W006", discovery.unheard))
        for found in look()
    ]


def check_listeners(**kwargs: Any) -> list[checks.CheckMessage]:
    """E004 to E007: does every listener fit its channel?"""
    found = [problem for listener in registry.listeners() for problem in _listener(listener)]
    found += [
        checks.Error(
            f"{one.path} and {other.path} are the same function, so each message is handled twice: "
            "its module is imported under two names.",
            hint="Import it everywhere under the name that INSTALLED_APPS gives its app.",
            id="pgpubsub_sql.E006",
        )
        for one, other in registry.twice_imported()
    ]
    return found + [
        checks.Error(
            f"Two different functions listen as {path}.",
            hint="Give one of them another name: a listener is known by its dotted path.",
            id="pgpubsub_sql.E006",
        )
        for path in sorted(registry.conflicts)
    ]


def check_migrations(**kwargs: Any) -> list[checks.CheckMessage]:
    """W002 and W003: will the triggers be installed?"""
    return [*_without_migrations(), *_not_on_postgresql()]


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """E101 and W101: can every setting be used, and should it?"""
    problems = list(_unusable_settings())
    if not problems and not conf.is_context_bound_to_transaction():
        warning = checks.Warning(
            "PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT is False, so a notification context lasts as "
            "long as its connection. If connections persist, it leaks into the next request.",
            hint="Use notification_context(), then remove PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT.",
            id="pgpubsub_sql.W101",
        )
        problems.append(warning)
    return problems


def _unusable_settings() -> Iterator[checks.CheckMessage]:
    for read in (
        conf.is_context_bound_to_transaction,
        conf.is_context_passed_to_listeners,
        filters.provider,
    ):
        try:
            read()
        except ImproperlyConfigured as error:
            yield checks.Error(str(error), id="pgpubsub_sql.E101")


def _triggers() -> list[type[TriggerChannel]]:
    """Return the trigger channels listened to, leaving aside listeners of unknown channels."""
    heard: dict[type[TriggerChannel], None] = {}
    for listener in registry.listeners():
        try:
            channel = listener.find_channel()
        except ChannelNotFound:
            continue  # check_listeners reports it
        if issubclass(channel, TriggerChannel):
            heard[channel] = None
    return list(heard)


def _definition(channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    for problem in _definition_problems(channel):
        yield checks.Error(problem, id="pgpubsub_sql.E001")


def _definition_problems(channel: type[BaseChannel]) -> Iterator[str]:
    path = dotted_path(channel)
    try:
        quote_identifier(channel.postgres_name())
    except TemplateError as error:
        yield f"{path} has a channel_name that PostgreSQL cannot hold: {error} Choose another."
    fields = _fields(channel)
    if annotated := [field for field in fields if field in _option_names(channel)]:
        yield (
            f"{path} makes a field of its option {annotated[0]!r}: take the annotation away, as "
            "options of a channel are plain class attributes."
        )
    elif issubclass(channel, Channel):
        yield from payloads.problems(channel, path)
    elif fields:
        yield (
            f"{path} declares the field {fields[0]!r}, but a trigger channel carries rows: take "
            "the annotation away, or make it a Channel."
        )
    yield from policies.problems(channel, path)


def _misspelled(channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    """Nothing else would tell: ``lock_notification = True`` makes no channel durable."""
    known = _option_names(channel)
    for name in sorted(set(vars(channel)) - known - set(_fields(channel))):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if close and not (name.startswith("_") or callable(getattr(channel, name))):
            yield checks.Warning(
                f"{dotted_path(channel)} sets {name!r}, which is no option. Did you mean "
                f"{close[0]!r}?",
                hint="If it is an attribute of your own, give it a less similar name.",
                id="pgpubsub_sql.W004",
            )


def _option_names(channel: type[BaseChannel]) -> set[str]:
    bases = [base for base in (BaseChannel, TriggerChannel) if issubclass(channel, base)]
    return {name for base in bases for name in base.__annotations__}


def _fields(channel: type[BaseChannel]) -> list[str]:
    if not dataclasses.is_dataclass(channel):
        return []
    return [field.name for field in dataclasses.fields(channel)]


def _duplicate_names() -> Iterator[checks.CheckMessage]:
    named = defaultdict(list)
    for channel in declared_channels():
        named[channel.postgres_name()].append(dotted_path(channel))
    for name, paths in named.items():
        if len(paths) > 1:
            yield checks.Error(
                f"The channels {', '.join(paths)} are all called {name!r}.",
                hint="Give all but one of them a channel_name of its own.",
                id="pgpubsub_sql.E002",
            )


def _model(channel: type[TriggerChannel]) -> Iterator[checks.CheckMessage]:
    hint = 'Set model to a model of an installed app: a class, or a label as "blog.Author".'
    try:
        problem = _model_problem(model_of(channel))
    except AttributeError:
        problem = "none is set."
    except LookupError as error:
        problem = str(error)
    except ValueError:
        problem = f"{channel.model!r} is no label of an app and a model with one dot between them."
    if problem:
        yield checks.Error(
            f"{dotted_path(channel)} has no model to watch: {problem}",
            hint=hint,
            id="pgpubsub_sql.E003",
        )


def _model_problem(model: object) -> str | None:
    """Return what keeps *model* from having a table of its own."""
    if not (isinstance(model, type) and issubclass(model, Model)) or model._meta.abstract:
        return f"{model!r} is not a concrete model."
    if model._meta.swapped:
        setting = model._meta.swappable
        return f"{model._meta.label} is swapped for another. Use settings.{setting}."
    return None


def _tables_of_others() -> Iterator[checks.CheckMessage]:
    for channel in _triggers():
        if any(_model(channel)) or model_of(channel)._meta.managed or channel.unmanaged:
            continue
        yield checks.Error(
            f"{dotted_path(channel)} watches {model_of(channel)._meta.label}, which has "
            "managed = False: no migration makes its table, and views cannot be watched.",
            hint="Set unmanaged = True on the channel if it is a table that migrate finds there.",
            id="pgpubsub_sql.E009",
        )


def _options(channel: type[TriggerChannel]) -> Iterator[checks.CheckMessage]:
    if any(_model(channel)):
        return  # without a model there is nothing to fit
    for problem in options.problems(channel):
        yield checks.Error(problem, id="pgpubsub_sql.E008")


def _listener(listener: Listener) -> Iterator[checks.CheckMessage]:
    try:
        channel = listener.find_channel()
    except ChannelNotFound as error:
        yield checks.Error(f"{listener.path} listens to nothing. {error}", id="pgpubsub_sql.E004")
        return
    if listener.events and not issubclass(channel, TriggerChannel):
        yield checks.Error(
            f"{listener.path} wants row events of {dotted_path(channel)}, which has no model.",
            hint="Use @listener, or make the channel a TriggerChannel.",
            id="pgpubsub_sql.E007",
        )
    elif not _is_broken(channel):
        yield from _signature(listener, channel)


def _is_broken(channel: type[BaseChannel]) -> bool:
    """Whether the fields of *channel* cannot be known, which E001 reports."""
    return issubclass(channel, Channel) and bool(payloads.problems(channel, dotted_path(channel)))


def _signature(listener: Listener, channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    known = [*field_names(channel), *EXTRAS]
    for problem in _signature_problems(listener, known):
        yield checks.Error(
            f"{listener.path} cannot be called by {dotted_path(channel)}: {problem}",
            hint=f"The channel passes {', '.join(known)}.",
            id="pgpubsub_sql.E005",
        )


def _signature_problems(listener: Listener, known: list[str]) -> Iterator[str]:
    try:
        parameters = listener.parameters
    except (TypeError, ValueError) as error:
        yield f"its signature cannot be read ({error}); wrap it in a function."
        return
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            yield f"its parameter {name!r} is positional-only, and fields are passed by name."
        elif parameter.kind in _VARIADIC or parameter.default is not inspect.Parameter.empty:
            continue
        elif name not in known:
            yield f"the channel has no field {name!r}, and the parameter has no default."


def _without_migrations() -> Iterator[checks.CheckMessage]:
    for channel in _triggers():
        if problem := _migrations_problem(app_label(channel)):
            statement, hint = problem
            yield checks.Warning(
                f"The trigger of {dotted_path(channel)} is in no migration: {statement}",
                hint=hint,
                id="pgpubsub_sql.W002",
            )


def _not_on_postgresql() -> Iterator[checks.CheckMessage]:
    for channel in _triggers():
        if list(_model(channel)):
            continue  # check_channels reports it
        if reason := _elsewhere(model_of(channel)):
            yield checks.Warning(
                f"The trigger of {dotted_path(channel)} is not installed: {reason}",
                hint="Route the model to PostgreSQL. Elsewhere nobody is told of its changes.",
                id="pgpubsub_sql.W003",
            )


def _elsewhere(model: type[Model]) -> str | None:
    """Return where *model* is written to, if that is no PostgreSQL."""
    connection = connections[router.db_for_write(model)]
    if connection.vendor == "postgresql":
        return None
    if connection.vendor == "unknown":  # Django's word for a database without ENGINE
        return f"DATABASES has no database {connection.alias!r}."
    return (
        f"{model._meta.label} is written to the database {connection.alias!r}, which is "
        f"{connection.display_name}."
    )


def _migrations_problem(label: str) -> tuple[str, str] | None:
    """Return why makemigrations writes nothing for an app, and what to do about it."""
    if label not in apps.app_configs:
        return (
            "its module belongs to no installed app.",
            "Move it to the channels.py of an app that is in INSTALLED_APPS.",
        )
    module, _ = MigrationLoader.migrations_module(label)
    if module is None or _is_package(module):
        return None
    return (
        f"the app {label!r} has no migrations package, so migrate installs it but never takes it "
        "away.",
        f"Run: python manage.py makemigrations {label}",
    )


def _is_package(module: str) -> bool:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None
