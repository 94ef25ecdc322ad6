"""The decorators, and the registry of who listens to what."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, TypeVar

from django.utils.module_loading import import_string

from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    TriggerChannel,
    codec,
    declared_channels,
    find_channel,
)
from pgpubsub_sql.sql.trigger import EVENTS

Callback = TypeVar("Callback", bound=Callable[..., Any])
Reference = type[BaseChannel] | str

EXTRAS = ("context", "notification")
"""What a listener may name beside the fields of its channel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listener:
    """One function that listens to one channel."""

    function: Callable[..., Any]
    """The object that was decorated."""
    channel: Reference
    """Resolved when it is asked for, so that a string may name a channel declared later."""
    events: frozenset[str] = frozenset()
    """The row events it installs and receives, as ``after_insert``; empty: receives all."""

    @property
    def path(self) -> str:
        """The dotted path by which it is known."""
        function = self.function
        qualname = getattr(function, "__qualname__", "") or f"<{type(function).__name__}>"
        return f"{getattr(function, '__module__', '')}.{qualname}"

    @property
    def is_local(self) -> bool:
        """Whether no path leads to it, so that it is known as the object it is."""
        return "<" in self.path

    @cached_property
    def callback(self) -> Callable[..., Any]:
        """What to call: what the path leads to, so that decorators above ours count too."""
        if self.is_local:
            return self.function
        found: Callable[..., Any] = import_string(self.path) if self._is_plain else self._by_parts()
        return found

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of what is called."""
        return inspect.signature(self.callback).parameters

    def accepts(self, event: str) -> bool:
        """Whether it wants messages of *event*."""
        return not self.events or event in self.events

    def arguments(self, fields: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments to call it with: the fields it names, or all for ``**kwargs``."""
        kinds = [parameter.kind for parameter in self.parameters.values()]
        wanted = {k: v for k, v in extras.items() if k in self.parameters}
        if inspect.Parameter.VAR_KEYWORD in kinds:
            return wanted | dict(fields)
        return wanted | {k: v for k, v in fields.items() if k in self.parameters}

    @property
    def _is_plain(self) -> bool:
        return "." not in getattr(self.function, "__qualname__", "")

    def _by_parts(self) -> Any:
        found = inspect.getmodule(self.function)
        for part in self.function.__qualname__.split("."):
            found = getattr(found, part)
        return found


class Registry:
    """Listeners in order of registration; registering one again changes nothing."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self.conflicts: list[tuple[Listener, Listener]] = []
        """Pairs of different functions that claim the same path."""

    def add(self, listener: Listener) -> None:
        """Register *listener*, or recognise it as one that is there already."""
        for known in self._listeners:
            if known.path == listener.path and not listener.is_local:
                if not _same_code(known.function, listener.function):
                    self.conflicts.append((known, listener))
                    return
                if (known.channel, known.events) == (listener.channel, listener.events):
                    return
        self._listeners.append(listener)

    def listeners(self) -> list[Listener]:
        """Return every registration."""
        return list(self._listeners)

    def listeners_of(self, channel: type[BaseChannel]) -> list[Listener]:
        """Return the listeners of *channel*; decorators stacked on one function are one listener."""
        merged: dict[Any, Listener] = {}
        for listener in self._listeners:
            if find_channel(listener.channel) is not channel:
                continue
            key = listener.function if listener.is_local else listener.path
            if key in merged:
                events = merged[key].events | listener.events
                listener = dataclasses.replace(merged[key], events=events)
            merged[key] = listener
        return list(merged.values())

    def channels(self) -> list[type[BaseChannel]]:
        """Return the channels that somebody listens to, in order of declaration."""
        heard = {find_channel(listener.channel) for listener in self._listeners}
        return [channel for channel in declared_channels() if channel in heard]


registry = Registry()


def _same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    return one is other or getattr(one, "__code__", one) == getattr(other, "__code__", other)


def _register(channel: Reference, events: Iterable[str]) -> Callable[[Callback], Callback]:
    def decorate(function: Callback) -> Callback:
        registry.add(Listener(function=function, channel=channel, events=frozenset(events)))
        return function

    return decorate


def listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Call the function with every message of *channel*.

    ::

        @pgpubsub_sql.listener(PostReads)
        def count_read(model_id: int, date: datetime.date): ...

    *channel* is a class, its module path or its name in PostgreSQL. The function may leave out
    any field it does not need; it may name ``context`` and ``notification``.
    """
    return _register(channel, ())


def trigger_listener(
    channel: Reference,
    *,
    events: Iterable[str] = ("insert", "update"),
    when: Literal["after", "before"] = "after",
) -> Callable[[Callback], Callback]:
    """Call the function when rows of the channel's model change, whoever changes them.

    The eight named decorators are shorthands. ``events=()`` installs nothing: the trigger is
    SQL of your own, and the function receives every message of the channel.

    Raises :class:`ValueError` for an event or time that there is not.
    """
    wanted = tuple(events)
    if unknown := set(wanted) - set(EVENTS):
        raise ValueError(f"There is no event {sorted(unknown)[0]!r}; choose of {EVENTS}.")
    if when not in ("after", "before"):
        raise ValueError(f"when is 'after' or 'before', not {when!r}.")
    return _register(channel, [f"{when}_{event}" for event in wanted])


def post_insert_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Call the function after a row was inserted, with ``old`` None and ``new`` the row.

    ::

        @pgpubsub_sql.post_insert_listener(AuthorChannel)
        def welcome(new: Author): ...
    """
    return trigger_listener(channel, events=("insert",))


def post_update_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Call the function after a row was updated, with ``old`` and ``new``."""
    return trigger_listener(channel, events=("update",))


def post_delete_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Call the function after a row was deleted, with ``old`` the row and ``new`` None."""
    return trigger_listener(channel, events=("delete",))


def post_save_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Call the function after a row was inserted or updated."""
    return trigger_listener(channel, events=("insert", "update"))


def field_names(channel: type[BaseChannel]) -> list[str]:
    """Return the names of what *channel* passes to its listeners."""
    if issubclass(channel, TriggerChannel):
        return ["old", "new"]
    assert issubclass(channel, Channel)
    return list(codec(channel).fields)
