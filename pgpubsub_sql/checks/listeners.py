"""Checks of listeners: E004 to E007, E013 to E016, and W011."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.core import checks

from pgpubsub_sql.channels import BaseChannel, TriggerChannel, dotted_path
from pgpubsub_sql.checks.channels import is_broken
from pgpubsub_sql.errors import ChannelNotFound, OptionError
from pgpubsub_sql.listeners import (
    BATCH_EXTRAS,
    EXTRAS,
    Listener,
    batch_listener_of,
    field_names,
    publish,
    registry,
)
from pgpubsub_sql.sql.own_tables import RELAY

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_listeners(**kwargs: Any) -> list[checks.CheckMessage]:
    """E004 to E007, E013 to E016, and W011: does every listener fit its channel?"""
    return [
        *(problem for listener in registry.listeners() for problem in _check(listener)),
        *_batch_listeners(),
        *_imported_twice(),
        *_same_path(),
    ]


def _check(listener: Listener) -> Iterator[checks.CheckMessage]:
    try:
        channel = listener.find_channel()
    except ChannelNotFound as error:
        yield checks.Error(
            f"{listener.path} listens to a channel that is not declared. {error}",
            id="pgpubsub_sql.E004",
        )
        return
    if listener.timed_events and not issubclass(channel, TriggerChannel):
        yield checks.Error(
            f"{listener.path} subscribes to row events of {dotted_path(channel)}, which has no "
            "rows.",
            hint="Use @listener, or make the channel a TriggerChannel.",
            id="pgpubsub_sql.E007",
        )
    elif not is_broken(channel):
        yield from _signature(listener, channel)
    if listener.subscription and not channel.lock_notifications:
        yield checks.Error(
            f"{listener.path} names the subscription {listener.subscription!r} of "
            f"{dotted_path(channel)}, which is ephemeral: its messages are not stored, and every "
            "process that listens handles each with all listeners.",
            hint="Set lock_notifications = True on the channel, or leave out the subscription.",
            id="pgpubsub_sql.E014",
        )
    if listener.subscription == RELAY and listener.function is not publish:
        yield checks.Error(
            f"{listener.path} names the subscription {RELAY!r} of {dotted_path(channel)}, which is "
            "that of the relay.",
            hint="Give it another name. To publish the channel, set relay = True on it.",
            id="pgpubsub_sql.E015",
        )
    if listener.start:
        yield from _start(listener, channel)


def _start(listener: Listener, channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    what = f'{listener.path} begins with the history of {dotted_path(channel)} (start="history")'
    if not channel.lock_notifications:
        yield checks.Error(
            f"{what}, which is ephemeral: its messages are not stored.",
            hint="Set lock_notifications = True on the channel, or leave out start.",
            id="pgpubsub_sql.E016",
        )
    elif channel.keep is None:
        yield checks.Warning(
            f"{what}, which keeps none: it gets only messages that another subscription has not "
            "handled yet.",
            hint="Set keep on the channel, such as keep = datetime.timedelta(days=7).",
            id="pgpubsub_sql.W011",
        )


def _signature(listener: Listener, channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    passed = [*BATCH_EXTRAS] if listener.is_batch else [*field_names(channel), *EXTRAS]
    for problem in _signature_problems(listener, passed):
        yield checks.Error(
            f"{listener.path} cannot be called by {dotted_path(channel)}: {problem}",
            hint=f"The channel passes {'a list, ' * listener.is_batch}{', '.join(passed)}.",
            id="pgpubsub_sql.E005",
        )


def _signature_problems(listener: Listener, passed: list[str]) -> Iterator[str]:
    try:
        parameters = list(listener.parameters.values())
    except (TypeError, ValueError) as error:
        yield f"its signature cannot be read ({error}). Wrap it in a function."
        return
    if listener.is_batch:
        if not parameters or parameters[0].kind not in _POSITIONAL:
            yield "it takes no list of messages as its first argument."
        parameters = parameters[1:]
    for parameter in parameters:
        if problem := _parameter_problem(parameter, passed, listener):
            yield problem


def _parameter_problem(
    parameter: inspect.Parameter, passed: list[str], listener: Listener
) -> str | None:
    name = parameter.name
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return f"its parameter {name!r} is positional-only, but fields are passed by name."
    if parameter.kind in _VARIADIC or parameter.default is not inspect.Parameter.empty:
        return None
    if name in passed:
        return None
    if listener.is_batch:
        return (
            f"nothing is passed as {name!r}, and the parameter has no default. Fields are "
            "attributes of the messages in the list."
        )
    return f"the channel has no field {name!r}, and the parameter has no default."


def _batch_listeners() -> Iterator[checks.CheckMessage]:
    with suppress(ChannelNotFound):  # E004
        found = [
            (one.find_channel(), one.subscription) for one in registry.listeners() if one.is_batch
        ]
        for channel, subscription in dict.fromkeys(found):
            try:
                batch_listener_of(channel, subscription)
            except OptionError as error:
                yield checks.Error(str(error), id="pgpubsub_sql.E013")


def _imported_twice() -> Iterator[checks.CheckMessage]:
    for one, other in registry.twice_imported():
        yield checks.Error(
            f"{one.path} and {other.path} are the same function, imported under two names, so each "
            "message is handled twice.",
            hint="Import its module everywhere by the name that INSTALLED_APPS gives its app.",
            id="pgpubsub_sql.E006",
        )


def _same_path() -> Iterator[checks.CheckMessage]:
    for path in sorted(registry.conflicts):
        yield checks.Error(
            f"Two different functions listen under the path {path}.",
            hint="Rename one of them: a listener is identified by its dotted path.",
            id="pgpubsub_sql.E006",
        )
