"""The decorators, and the registry of who listens to what."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from importlib.machinery import ModuleSpec
from typing import Any, Literal, TypeVar

from asgiref.sync import async_to_sync

from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    codec,
    current,
    declared_channels,
    find_channel,
)
from pgpubsub_sql.reloading import is_outdated, loading
from pgpubsub_sql.sql.trigger import EVENTS

Callback = TypeVar("Callback", bound=Callable[..., Any])
Reference = type[BaseChannel] | str

EXTRAS = ("context", "notification")
"""What a listener may name beside the fields of its channel, whose names come first."""

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listener:
    """One function that listens to one channel."""

    function: Callable[..., Any]
    """The object that was decorated."""
    channel: Reference
    """Resolved when it is asked for, so that a string may name a channel declared later."""
    events: frozenset[str] = frozenset()
    """The row events it installs and receives, as ``after_insert``; empty: receives all."""
    module: ModuleSpec | None = dataclasses.field(default=None, compare=False)
    """The module that has registered it."""

    def find_channel(self) -> type[BaseChannel]:
        """Return the channel. Raises :class:`ChannelNotFound` if it is not declared."""
        return current(find_channel(self.channel))

    @property
    def path(self) -> str:
        """The dotted path by which it is known."""
        qualname = getattr(self.function, "__qualname__", f"<{type(self.function).__name__}>")
        return f"{self.function.__module__}.{qualname}"

    @property
    def is_local(self) -> bool:
        """Whether no path leads to it: a function within a function, a lambda, a partial, a
        method of an object."""
        owner = getattr(self.function, "__self__", None)
        return "<" in self.path or not (owner is None or isinstance(owner, type))

    @property
    def identity(self) -> Hashable:
        """What tells it from others: the function, without what decorators wrap around it."""
        return self.function if self.is_local else inspect.unwrap(self.function)

    @cached_property
    def target(self) -> Callable[..., Any]:
        """What the path leads to, so that decorators above ours count too; else the function."""
        found: Any = None if self.is_local else sys.modules.get(self.function.__module__)
        for part in getattr(self.function, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        return found if callable(found) and not self._is_twin(found) else self.function

    def _is_twin(self, found: Callable[..., Any]) -> bool:
        """Whether *found* is another function from the same code, as a loop makes them."""
        is_other = _innermost(found) is not _innermost(self.function)
        return is_other and _code(found) is not None and _code(found) == _code(self.function)

    @cached_property
    def callback(self) -> Callable[..., Any]:
        """What to call. A coroutine runs to its end, its ORM work on the caller's connection."""
        is_async = inspect.iscoroutinefunction(self.target)
        return async_to_sync(self.target) if is_async else self.target

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of what is called."""
        return inspect.signature(self.target).parameters

    def accepts(self, event: str) -> bool:
        """Whether it wants messages of *event*."""
        return not self.events or event in self.events

    def arguments(self, fields: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments to call it with: the fields it names, or all for ``**kwargs``."""
        named = self._named
        if not self._takes_all:
            fields = {name: value for name, value in fields.items() if name in named}
        passed = {name: extras[name] for name in named & extras.keys()}
        return {**passed, **fields}

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(name for name, p in self.parameters.items() if p.kind in _BY_NAME)

    @cached_property
    def _takes_all(self) -> bool:
        return any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())


class Registry:
    """Listeners in order of registration; registering one again changes nothing, and what a module
    registered before it was loaded again counts no longer."""

    def __init__(self) -> None:
        self._listeners: dict[Hashable, Listener] = {}

    def add(self, listener: Listener) -> None:
        """Register *listener*, or recognise it as one that is there already."""
        key = listener.identity, listener.channel, listener.events
        self._listeners.setdefault(key, listener)

    def listeners(self) -> list[Listener]:
        """Return every registration."""
        return [found for found in self._listeners.values() if not is_outdated(found.module)]

    @property
    def conflicts(self) -> set[str]:
        """Paths that different functions claim."""
        codes = defaultdict(set)
        for listener in self.listeners():
            if not listener.is_local:
                codes[listener.path].add(_code(listener.function))
        return {path for path, found in codes.items() if len(found) > 1}

    def twice_imported(self) -> list[tuple[Listener, Listener]]:
        """Return listeners that are one function, whose module has two names."""
        first: dict[object, Listener] = {}
        pairs = []
        for listener in self.listeners():
            known = first.setdefault(_place(listener.function), listener)
            if known.function.__module__ != listener.function.__module__:
                pairs.append((known, listener))
        return pairs

    def listeners_of(self, channel: type[BaseChannel]) -> list[Listener]:
        """Return the listeners of *channel*; decorators stacked on a function are one listener."""
        merged: dict[Hashable, Listener] = {}
        for listener in self.listeners():
            if listener.find_channel() is channel:
                first = merged.get(listener.identity, listener)
                union = dataclasses.replace(first, events=first.events | listener.events)
                merged[listener.identity] = union
        return list(merged.values())

    def channels(self) -> list[type[BaseChannel]]:
        """Return the channels that somebody listens to, in order of declaration."""
        heard = {listener.find_channel() for listener in self.listeners()}
        return [channel for channel in declared_channels() if channel in heard]


registry = Registry()


def _register(channel: Reference, events: Iterable[str]) -> Callable[[Callback], Callback]:
    if not isinstance(channel, str):
        find_channel(channel)  # or it raises; what a string names may be declared later
    module = loading()

    def decorate(function: Callback) -> Callback:
        listener = Listener(
            function=function, channel=channel, events=frozenset(events), module=module
        )
        registry.add(listener)
        return function

    return decorate


def _innermost(function: Callable[..., Any]) -> object:
    """Return *function* without what it is bound to and what decorators wrap around it."""
    return inspect.unwrap(getattr(function, "__func__", function))


def _code(function: Callable[..., Any]) -> object:
    return getattr(_innermost(function), "__code__", None)


def _place(function: Callable[..., Any]) -> object:
    """Return where the code of *function* is written; of no code, what no other function has."""
    code: Any = _code(function)
    return (code.co_filename, code.co_firstlineno, code.co_name) if code else id(function)


def listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Call the function with every message of *channel*.

    ::

        @pgpubsub_sql.listener(PostReads)
        def count_read(model_id: int, date: datetime.date): ...

    *channel* is a class, its module path or its name in PostgreSQL. The function may leave out
    any field it does not need; it may name ``context`` and ``notification`` (fields of those names
    come first).

    Raises :class:`ChannelNotFound` for what is neither a channel nor a string.
    """
    return _register(channel, ())


def trigger_listener(
    channel: Reference,
    *,
    events: Iterable[str] = ("insert", "update"),
    when: Literal["after", "before"] = "after",
) -> Callable[[Callback], Callback]:
    """Call the function when rows of the channel's model change, whoever changes them.

    The named decorators are shorthands. ``events=()`` installs nothing: the trigger is
    SQL of your own, and the function receives every message of the channel.

    Raises :class:`ValueError` for an event or time that there is not.
    """
    wanted = (events,) if isinstance(events, str) else tuple(events)
    if unknown := set(wanted) - set(EVENTS):
        raise ValueError(f"There is no event {sorted(unknown)[0]!r}: choose from {EVENTS}.")
    if when not in ("after", "before"):
        raise ValueError(f"when must be 'after' or 'before', not {when!r}.")
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


def post_truncate_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Call the function after the table was truncated, with ``old`` and ``new`` both None."""
    return trigger_listener(channel, events=("truncate",))


def pre_insert_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Send a row that is about to be inserted, as ``new``.

    As with every ``pre_`` listener the function is called once the write is committed; it is the
    row that is from before: what triggers of other authors still do to it is not in it.
    """
    return trigger_listener(channel, events=("insert",), when="before")


def pre_update_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Send a row that is about to be updated, as ``old`` and ``new``."""
    return trigger_listener(channel, events=("update",), when="before")


def pre_delete_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Send a row that is about to be deleted, as ``old``."""
    return trigger_listener(channel, events=("delete",), when="before")


def pre_save_listener(channel: Reference) -> Callable[[Callback], Callback]:
    """Send a row that is about to be inserted or updated."""
    return trigger_listener(channel, events=("insert", "update"), when="before")


def field_names(channel: type[BaseChannel]) -> list[str]:
    """Return the names of what *channel* passes to its listeners."""
    return list(codec(channel).fields) if issubclass(channel, Channel) else ["old", "new"]
