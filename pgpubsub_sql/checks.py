"""System checks: what would fail at the first message fails at ``manage.py check``."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model

from pgpubsub_sql import payloads
from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    TriggerChannel,
    app_label,
    declared_channels,
    dotted_path,
    find_channel,
    model_of,
)
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import EXTRAS, Listener, field_names, registry
from pgpubsub_sql.migrations_ops import autodetector


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def register() -> None:
    """Register the checks with Django; registering them again changes nothing."""
    checks.register(check_channels)
    checks.register(check_listeners)
    checks.register(check_migrations)


def check_channels(**kwargs: Any) -> list[checks.CheckMessage]:
    """E001 definition, E002 duplicate names, E003 model."""
    return [
        *(problem for channel in declared_channels() for problem in _definition(channel)),
        *_duplicate_names(),
        *(problem for channel in registry_channels() for problem in _model(channel)),
    ]


def check_listeners(**kwargs: Any) -> list[checks.CheckMessage]:
    """E004 unknown channel, E005 signature, E006 one path for two functions, E007 kind."""
    found = [problem for listener in registry.listeners() for problem in _listener(listener)]
    return found + [
        checks.Error(
            f"Two different functions listen as {known.path}.",
            hint="Give one of them another name: a listener is known by its dotted path.",
            id="pgpubsub_sql.E006",
        )
        for known, _ in registry.conflicts
    ]


def check_migrations(**kwargs: Any) -> list[checks.CheckMessage]:
    """W001 the autodetector was replaced, W002 an app cannot have migrations."""
    if autodetector.is_installed():
        return list(_apps_without_migrations())
    return [
        checks.Warning(
            "Another package has replaced the autodetector, so makemigrations does not see "
            "triggers.",
            hint="Put that package before pgpubsub_sql in INSTALLED_APPS.",
            id="pgpubsub_sql.W001",
        )
    ]


def registry_channels() -> list[type[BaseChannel]]:
    """Return the channels listened to, leaving aside listeners of unknown ones."""
    heard = []
    for listener in registry.listeners():
        try:
            heard.append(find_channel(listener.channel))
        except ChannelNotFound:
            continue  # check_listeners reports it
    return list(dict.fromkeys(heard))


def _definition(channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    if issubclass(channel, Channel):
        for problem in payloads.problems(channel, dotted_path(channel)):
            yield checks.Error(problem, obj=channel, id="pgpubsub_sql.E001")
    elif fields := _own_fields(channel):
        yield checks.Error(
            f"{dotted_path(channel)} declares the field {fields[0]!r}, but a trigger channel "
            "carries rows.",
            hint="Take the annotation away: options of a channel are plain class attributes.",
            obj=channel,
            id="pgpubsub_sql.E001",
        )


def _own_fields(channel: type[BaseChannel]) -> list[str]:
    if not dataclasses.is_dataclass(channel):
        return []
    return [field.name for field in dataclasses.fields(channel)]


def _duplicate_names() -> Iterator[checks.CheckMessage]:
    named = defaultdict(list)
    for channel in declared_channels():
        named[channel.postgres_name()].append(channel)
    for name, channels in named.items():
        if len(channels) > 1:
            yield checks.Error(
                f"The channels {', '.join(map(dotted_path, channels))} are all called {name!r}.",
                hint="Give all but one of them a channel_name of its own.",
                obj=channels[-1],
                id="pgpubsub_sql.E002",
            )


def _model(channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    if not issubclass(channel, TriggerChannel):
        return
    try:
        model = model_of(channel)
    except (AttributeError, LookupError, ValueError) as error:
        problem = str(error)
    else:
        if isinstance(model, type) and issubclass(model, Model) and not model._meta.abstract:
            return
        problem = f"{model!r} is not a concrete model."
    yield checks.Error(
        f"{dotted_path(channel)} has no model to watch: {problem}",
        hint='Set model to a model class, or to a label such as "blog.Author", of an installed app.',
        obj=channel,
        id="pgpubsub_sql.E003",
    )


def _listener(listener: Listener) -> Iterator[checks.CheckMessage]:
    try:
        channel = find_channel(listener.channel)
    except ChannelNotFound as error:
        yield checks.Error(
            f"{listener.path} listens to nothing. {error}", id="pgpubsub_sql.E004"
        )
        return
    if listener.events and not issubclass(channel, TriggerChannel):
        yield checks.Error(
            f"{listener.path} wants row events of {dotted_path(channel)}, which has no model.",
            hint="Use @listener, or make the channel a TriggerChannel.",
            id="pgpubsub_sql.E007",
        )
        return
    for problem in _signature_problems(listener, channel):
        yield checks.Error(
            f"{listener.path} cannot be called by {dotted_path(channel)}: {problem}",
            hint=f"The channel passes {', '.join([*field_names(channel), *EXTRAS])}.",
            id="pgpubsub_sql.E005",
        )


def _signature_problems(listener: Listener, channel: type[BaseChannel]) -> Iterator[str]:
    if payloads_broken(channel):
        return  # reported as E001, and its fields are not known
    known = {*field_names(channel), *EXTRAS}
    for name, parameter in listener.parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            yield f"its parameter {name!r} is positional-only, and fields are passed by name."
        elif (
            parameter.default is inspect.Parameter.empty
            and parameter.kind not in _VARIADIC
            and name not in known
        ):
            yield f"the channel has no field {name!r}, and the parameter has no default."


def payloads_broken(channel: type[BaseChannel]) -> bool:
    """Whether the fields of *channel* cannot be known."""
    return issubclass(channel, Channel) and bool(payloads.problems(channel, dotted_path(channel)))


def _apps_without_migrations() -> Iterator[checks.CheckMessage]:
    for label in sorted({app_label(c) for c in registry_channels() if issubclass(c, TriggerChannel)}):
        module, _ = MigrationLoader.migrations_module(label)
        if module is None or _is_package(module):
            continue
        yield checks.Warning(
            f"The app {label!r} declares a trigger channel, but has no migrations package, so "
            "its trigger is not installed.",
            hint=f"Run: python manage.py makemigrations {label}",
            id="pgpubsub_sql.W002",
        )


def _is_package(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None
