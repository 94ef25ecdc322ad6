"""Checks of channels: E001, E002, E003, E008, E009, W004 and W010."""

from __future__ import annotations

import dataclasses
import difflib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from pgpubsub_sql import payloads
from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    TriggerChannel,
    codec,
    declared_channels,
    dotted_path,
    model_of,
    relayed_channels,
)
from pgpubsub_sql.errors import ChannelNotFound, PayloadError, TemplateError
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.declared_triggers import option_problems
from pgpubsub_sql.relay.settings import relay_settings_if_any
from pgpubsub_sql.retry import Retry, is_number
from pgpubsub_sql.sql import quote_identifier

LONGEST_KEEP = timedelta(days=36500)
"""PostgreSQL has no times for much more."""


def check_channels(**kwargs: Any) -> list[checks.CheckMessage]:
    """E001, E002, E003, E008, E009, W004 and W010: is every channel declared correctly?"""
    declared, triggers = declared_channels(), trigger_channels()
    return [
        *(problem for channel in declared for problem in _declaration(channel)),
        *(problem for channel in declared for problem in _misspelled_options(channel)),
        *_duplicate_names(),
        *_unpublished(),
        *(problem for channel in triggers for problem in _model(channel)),
        *(problem for channel in triggers for problem in _trigger_options(channel)),
        *(problem for channel in triggers for problem in _unmanaged_table(channel)),
    ]


def trigger_channels() -> list[type[TriggerChannel]]:
    """Return the trigger channels that have a listener: the others have no triggers."""
    found: dict[type[TriggerChannel], None] = {}
    for listener in registry.listeners():
        try:
            channel = listener.find_channel()
        except ChannelNotFound:
            continue  # E004
        if issubclass(channel, TriggerChannel):
            found[channel] = None
    return list(found)


def model_problem(channel: type[TriggerChannel]) -> str | None:
    """Return why *channel* has no model with a table to watch, or None."""
    try:
        model: object = model_of(channel)
    except AttributeError:
        return "none is set."
    except LookupError as error:
        return str(error)
    except ValueError:
        return f"{channel.model!r} is not a label of the form app_label.ModelName."
    if not (isinstance(model, type) and issubclass(model, Model)) or model._meta.abstract:
        return f"{model!r} is not a concrete model."
    if model._meta.swapped:
        return f"{model._meta.label} is swapped out. Use settings.{model._meta.swappable}."
    return None


def is_broken(channel: type[BaseChannel]) -> bool:
    """Return whether the fields of *channel* cannot be determined, which E001 reports."""
    try:
        if issubclass(channel, Channel):
            codec(channel)
    except PayloadError:
        return True
    return False


def _declaration(channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    path = dotted_path(channel)
    for problem in (*_name_and_fields(channel, path), *_delivery_options(channel, path)):
        yield checks.Error(problem, id="pgpubsub_sql.E001")


def _name_and_fields(channel: type[BaseChannel], path: str) -> Iterator[str]:
    try:
        quote_identifier(channel.postgres_name())
    except TemplateError as error:
        yield f"{path} has a channel_name that PostgreSQL cannot hold: {error} Choose another."
    fields = _fields(channel)
    if annotated := [field for field in fields if field in _option_names(channel)]:
        yield (
            f"{path} annotates its option {annotated[0]!r}, which makes it a field. Remove the "
            "annotation: options are plain class attributes."
        )
    elif issubclass(channel, Channel):
        yield from payloads.definition_problems(channel, path) if is_broken(channel) else ()
    elif fields:
        yield (
            f"{path} declares the field {fields[0]!r}, but a trigger channel sends rows. Remove "
            "the annotation, or make it a Channel."
        )


def _delivery_options(channel: type[BaseChannel], path: str) -> Iterator[str]:
    """Yield what is wrong with the options that say how messages are handled."""
    if not isinstance(channel.retry, Retry):
        yield f"{path} has the retry {channel.retry!r}: set a pgpubsub_sql.Retry(max_attempts=…)."
    timeout, size = channel.timeout, channel.batch_size
    if timeout is not None and not (is_number(timeout) and timeout > 0):
        yield f"{path} has timeout = {timeout!r}: set a number of seconds greater than 0, or None."
    if size is not None and not (type(size) is int and size >= 1):
        yield f"{path} has the batch_size {size!r}: set an integer of at least 1, or None."
    accepts: object = channel.accept_raw_notify
    if not isinstance(accepts, bool):
        yield f"{path} has the accept_raw_notify {accepts!r}: set True or False."
    yield from _keep(channel, path)
    yield from _received_from(channel, path)
    yield from _relay(channel, path)
    yield from _notify(channel, path)
    yield from _ordering_key(channel, path)


def _keep(channel: type[BaseChannel], path: str) -> Iterator[str]:
    keep: object = channel.keep
    if keep is None:
        return
    if not isinstance(keep, timedelta) or not timedelta(0) < keep <= LONGEST_KEEP:
        yield (
            f"{path} has keep = {keep!r}: set a timedelta of more than nothing and of at most "
            f"{LONGEST_KEEP.days} days, or None."
        )
    elif not channel.lock_notifications:
        yield (
            f"{path} has keep = {keep!r} but is ephemeral: nothing stores its messages, so nothing "
            "can keep them. Set lock_notifications = True."
        )


def _received_from(channel: type[BaseChannel], path: str) -> Iterator[str]:
    source: object = channel.received_from
    if source not in (None, "nats"):
        yield f'{path} has received_from = {source!r}: set "nats", or None.'
    elif source and not channel.lock_notifications:
        yield (
            f"{path} has received_from = {source!r} but is ephemeral, so what is received could "
            "not be stored. Set lock_notifications = True."
        )


def _relay(channel: type[BaseChannel], path: str) -> Iterator[str]:
    relay: object = channel.relay
    if not isinstance(relay, bool):
        yield f"{path} has relay = {relay!r}: set True or False."
    elif relay and not channel.lock_notifications:
        yield (
            f"{path} has relay = True but is ephemeral, so what is to be published could not be "
            "stored. Set lock_notifications = True."
        )
    elif relay and channel.received_from is not None:
        yield (
            f"{path} has relay = True and received_from = {channel.received_from!r}: what comes "
            "from other databases is not published again. Remove one of them, or send it on from "
            "a listener, on another channel."
        )


def _notify(channel: type[BaseChannel], path: str) -> Iterator[str]:
    notify: object = channel.notify
    if not isinstance(notify, bool | None):
        yield f"{path} has notify = {notify!r}: set True, False, or None for the setting."
    elif notify is False and not channel.lock_notifications:
        yield (
            f"{path} has notify = False but is ephemeral: its messages are NOTIFYs, so nobody "
            "would receive them. Set lock_notifications = True."
        )


def _ordering_key(channel: type[BaseChannel], path: str) -> Iterator[str]:
    key: object = channel.ordering_key
    if not isinstance(key, str | tuple | list) or key == "":
        yield f"{path} has the ordering_key {key!r}: set the name of a field, or a tuple of names."
        return
    fields = channel.ordering_fields()
    if fields and not channel.lock_notifications:
        yield (
            f"{path} has an ordering_key but is ephemeral: nothing stores its messages, so nothing "
            "can order them. Set lock_notifications = True."
        )
    if fields and issubclass(channel, Channel) and not is_broken(channel):
        known = codec(channel).fields
        for field in [field for field in fields if field not in known]:
            yield (
                f"{path} has no field {field!r}, which its ordering_key names. Its fields are "
                f"{', '.join(known)}."
            )


def _misspelled_options(channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    """Report attributes such as ``lock_notification = True``, which would have no effect."""
    known = _option_names(channel)
    for name in sorted(set(vars(channel)) - known - set(_fields(channel))):
        if name.startswith("_") or callable(getattr(channel, name)):
            continue
        if close := difflib.get_close_matches(name, known, n=1, cutoff=0.85):
            yield checks.Warning(
                f"{dotted_path(channel)} sets {name!r}, which is not an option. Did you mean "
                f"{close[0]!r}?",
                hint="If the attribute is your own, give it a name less like an option's.",
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
                f"The channels {', '.join(paths)} are all called {name!r} in PostgreSQL.",
                hint="Set a different channel_name on all but one of them.",
                id="pgpubsub_sql.E002",
            )


def _unpublished() -> Iterator[checks.CheckMessage]:
    """Warn of relayed channels if the settings, or nats-py, are missing.

    It is no error: a copy of production must not publish, and writers need neither.
    """
    relayed = ", ".join(map(dotted_path, relayed_channels()))
    with suppress(ImproperlyConfigured):  # E101
        settings = relay_settings_if_any()
        if relayed and (settings is None or settings.origin is None):
            yield checks.Warning(
                f"PGPUBSUB_RELAY has no 'origin', so nothing publishes what {relayed} sends: it is "
                "stored, and waits.",
                hint="Set it to the name under which this project publishes: "
                "PGPUBSUB_RELAY = {'servers': ['nats://127.0.0.1:4222'], 'origin': 'shop'}",
                id="pgpubsub_sql.W010",
            )
        elif relayed and find_spec("nats") is None:
            yield checks.Warning(
                f"nats-py is not installed, so nothing publishes what {relayed} sends from here.",
                hint='Where listen --relay runs, install it: pip install "pgpubsub-sql[nats]"',
                id="pgpubsub_sql.W010",
            )


def _model(channel: type[TriggerChannel]) -> Iterator[checks.CheckMessage]:
    if problem := model_problem(channel):
        yield checks.Error(
            f"{dotted_path(channel)} has no model to watch: {problem}",
            hint='Set model to a model of an installed app: a class, or a label, "blog.Author".',
            id="pgpubsub_sql.E003",
        )


def _trigger_options(channel: type[TriggerChannel]) -> Iterator[checks.CheckMessage]:
    if model_problem(channel):
        return  # E003
    for problem in option_problems(channel):
        yield checks.Error(problem, id="pgpubsub_sql.E008")


def _unmanaged_table(channel: type[TriggerChannel]) -> Iterator[checks.CheckMessage]:
    if model_problem(channel) or model_of(channel)._meta.managed or channel.unmanaged:
        return
    yield checks.Error(
        f"{dotted_path(channel)} watches {model_of(channel)._meta.label}, which has "
        "managed = False: no migration creates its table, and a view cannot be watched.",
        hint="If it is a table that exists when migrate runs, set unmanaged = True on the channel.",
        id="pgpubsub_sql.E009",
    )
