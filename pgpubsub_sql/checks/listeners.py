"""Checks of listeners: E004 to E007."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from django.core import checks

from pgpubsub_sql import payloads
from pgpubsub_sql.channels import BaseChannel, Channel, TriggerChannel, dotted_path
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import EXTRAS, Listener, field_names, registry

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_listeners(**kwargs: Any) -> list[checks.CheckMessage]:
    """E004 to E007: does every listener fit its channel?"""
    return [
        *(problem for listener in registry.listeners() for problem in _check(listener)),
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
    elif not _is_broken(channel):
        yield from _signature(listener, channel)


def _is_broken(channel: type[BaseChannel]) -> bool:
    """Whether the fields of *channel* cannot be determined, which E001 reports."""
    return issubclass(channel, Channel) and bool(
        payloads.definition_problems(channel, dotted_path(channel))
    )


def _signature(listener: Listener, channel: type[BaseChannel]) -> Iterator[checks.CheckMessage]:
    passed = [*field_names(channel), *EXTRAS]
    for problem in _signature_problems(listener, passed):
        yield checks.Error(
            f"{listener.path} cannot be called by {dotted_path(channel)}: {problem}",
            hint=f"The channel passes {', '.join(passed)}.",
            id="pgpubsub_sql.E005",
        )


def _signature_problems(listener: Listener, passed: list[str]) -> Iterator[str]:
    try:
        parameters = listener.parameters
    except (TypeError, ValueError) as error:
        yield f"its signature cannot be read ({error}). Wrap it in a function."
        return
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            yield f"its parameter {name!r} is positional-only, but fields are passed by name."
        elif parameter.kind in _VARIADIC or parameter.default is not inspect.Parameter.empty:
            continue
        elif name not in passed:
            yield f"the channel has no field {name!r}, and the parameter has no default."


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
