"""The decorators of listeners, and the registry of listeners."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache, cached_property
from importlib.machinery import ModuleSpec
from typing import Any, Literal, TypeVar

from asgiref.sync import async_to_sync

from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    Declarations,
    TriggerChannel,
    codec,
    current,
    declarations,
    declared_channels,
    dotted_path,
    find_channel,
    is_outdated,
    is_relayed,
    loading_module,
    relayed_channels,
)
from pgpubsub_sql.errors import OptionError
from pgpubsub_sql.sql.own_tables import RELAY
from pgpubsub_sql.sql.trigger import EVENTS
from pgpubsub_sql.subscriptions import Lane, check_name

Callback = TypeVar("Callback", bound=Callable[..., Any])
Reference = type[BaseChannel] | str
Start = Literal["history"]
"""With what a subscription begins that is new."""
Select = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]

EXTRAS = ("context", "notification")
"""What a listener may name besides the fields of its channel; fields of these names win."""
BATCH_EXTRAS = ("contexts", "notifications")
"""What a batch listener may name besides its messages: a list with one of each."""

RELAYED_EVENTS = ("insert", "update", "delete")
"""What a relayed trigger channel sends, whatever its listeners want."""

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listener:
    """A function that listens to a channel."""

    function: Callable[..., Any]
    """The object that was decorated."""
    channel: Reference
    """Resolved by :meth:`find_channel`, so that a string may name a channel declared later."""
    subscription: str = ""
    """Listeners of a durable channel with the same one are called together."""
    timed_events: frozenset[str] = frozenset()
    """The row events that it needs, with their timing, such as ``after_insert``; if none, it gets
    every message."""
    start: Start | None = None
    """``"history"``: its subscription begins with what was sent before it was registered."""
    is_batch: bool = False
    """Whether it is called with a list of messages."""
    module: ModuleSpec | None = dataclasses.field(default=None, compare=False)
    """The module whose import registered it."""

    def find_channel(self) -> type[BaseChannel]:
        """Return the channel. Raises :class:`ChannelNotFound` if it is not declared."""
        return current(find_channel(self.channel))

    @property
    def path(self) -> str:
        """Its dotted path, by which messages, logs and commands name it."""
        qualname = getattr(self.function, "__qualname__", f"<{type(self.function).__name__}>")
        return f"{self.function.__module__}.{qualname}"

    @property
    def is_local(self) -> bool:
        """Whether it cannot be imported by its path: a nested function, a lambda, a partial, or a
        method of an object."""
        owner = getattr(self.function, "__self__", None)
        return "<" in self.path or not (owner is None or isinstance(owner, type))

    @property
    def identity(self) -> Hashable:
        """What identifies it: the function without decorators, if it can be imported."""
        return self.function if self.is_local else inspect.unwrap(self.function)

    @cached_property
    def target(self) -> Callable[..., Any]:
        """The object at its path, so that decorators above ours apply too; else the function."""
        found: Any = None if self.is_local else sys.modules.get(self.function.__module__)
        for part in getattr(self.function, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        return found if callable(found) and not self._is_twin(found) else self.function

    def _is_twin(self, found: Callable[..., Any]) -> bool:
        """Whether *found* is another function with the same code, as a loop may make them."""
        is_other = _innermost(found) is not _innermost(self.function)
        return is_other and _code(found) is not None and _code(found) == _code(self.function)

    @cached_property
    def callback(self) -> Callable[..., Any]:
        """What to call; a coroutine runs to its end, and its ORM uses the caller's connection."""
        is_async = inspect.iscoroutinefunction(self.target)
        return async_to_sync(self.target) if is_async else self.target

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of :attr:`target`."""
        return inspect.signature(self.target).parameters

    def accepts(self, timed_event: str) -> bool:
        """Whether it receives messages of *timed_event*."""
        return not self.timed_events or timed_event in self.timed_events

    def selector(self, names: Iterable[str]) -> Select:
        """Return what selects its arguments, prepared for fields of these *names*.

        It takes the fields and :data:`EXTRAS`, and returns the fields that the function names, or
        all if it takes ``**kwargs``, and the extras that it names.
        """
        every = tuple(names)
        wanted = every if self._takes_all else tuple(n for n in every if n in self._named)
        added = tuple(n for n in EXTRAS if n in self._named and n not in every)
        if added:
            return lambda fields, extras: {
                **{name: extras[name] for name in added},
                **{name: fields[name] for name in wanted},
            }
        if wanted == every:
            return lambda fields, extras: fields
        return lambda fields, extras: {name: fields[name] for name in wanted}

    @property
    def batch_extras(self) -> list[str]:
        """Those of :data:`BATCH_EXTRAS` that the function names after its messages."""
        return [name for name in [*self.parameters][1:] if name in BATCH_EXTRAS]

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(name for name, p in self.parameters.items() if p.kind in _BY_NAME)

    @cached_property
    def _takes_all(self) -> bool:
        return any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())


class Registry:
    """Listeners in order of registration.

    Registering a listener again changes nothing. What a module registered before it was reloaded
    does not count.
    """

    def __init__(self) -> None:
        self._listeners: dict[Hashable, Listener] = {}
        self._index: dict[type[BaseChannel], list[Listener]] = {}
        self._known_to: tuple[int, Declarations] = 0, ([], 0)

    def add(self, listener: Listener) -> None:
        """Register *listener*, unless it is registered already."""
        key = (
            *(listener.identity, listener.channel, listener.subscription),
            *(listener.timed_events, listener.is_batch, listener.start),
        )
        self._listeners.setdefault(key, listener)

    def listeners(self) -> list[Listener]:
        """Return all registrations, and one of :func:`publish` for each relayed channel."""
        return [
            *self._registered(),
            *(_publishing(one) for one in relayed_channels()),  # type: ignore[arg-type]  # as codec()
        ]

    def _registered(self) -> list[Listener]:
        return [found for found in self._listeners.values() if not is_outdated(found.module)]

    @property
    def conflicts(self) -> set[str]:
        """Paths that several different functions have."""
        codes = defaultdict(set)
        for listener in self.listeners():
            if not listener.is_local:
                codes[listener.path].add(_code(listener.function))
        return {path for path, found in codes.items() if len(found) > 1}

    def twice_imported(self) -> list[tuple[Listener, Listener]]:
        """Return pairs of listeners that are one function, whose module has two names."""
        first: dict[object, Listener] = {}
        pairs = []
        for listener in self.listeners():
            known = first.setdefault(_place(listener.function), listener)
            if known.function.__module__ != listener.function.__module__:
                pairs.append((known, listener))
        return pairs

    def listeners_of(
        self, channel: type[BaseChannel], subscription: str | None = None
    ) -> list[Listener]:
        """Return the listeners of *channel*, or those of one subscription.

        Stacked decorators make one listener, unless they name several subscriptions.
        """
        published = [_publishing(channel)] if is_relayed(channel) else []  # type: ignore[arg-type]  # as codec()
        found = [*self._registered_for(channel), *published]
        # Copies, because each looks up its function once, and tests replace functions.
        return [dataclasses.replace(x) for x in found if subscription in (None, x.subscription)]

    def _registered_for(self, channel: type[BaseChannel]) -> list[Listener]:
        """Return what is registered for *channel*, from an index.

        It is made anew once a listener is registered or a channel declared, as reloading a module
        does, and if a reloaded module has left one out.
        """
        known_to = len(self._listeners), declarations()
        found = self._index.get(channel, [])
        if known_to != self._known_to or any(is_outdated(one.module) for one in found):
            self._index, self._known_to = self._indexed(), known_to
        return self._index.get(channel, [])

    def _indexed(self) -> dict[type[BaseChannel], list[Listener]]:
        merged: dict[type[BaseChannel], dict[Hashable, Listener]] = defaultdict(dict)
        for listener in self._registered():
            same = merged[listener.find_channel()]
            key = listener.identity, listener.subscription, listener.is_batch
            first = same.get(key, listener)
            union = first.timed_events | listener.timed_events
            start = first.start or listener.start
            same[key] = dataclasses.replace(first, timed_events=union, start=start)
        return {channel: list(same.values()) for channel, same in merged.items()}

    def lanes_of(self, channels: Iterable[type[BaseChannel]]) -> list[Lane]:
        """Return the subscriptions of *channels*, each in order of registration.

        A channel that is ephemeral, or has no listener, counts as one without a name.
        """
        return [
            Lane(channel.postgres_name(), name)
            for channel in channels
            for name in self._subscriptions_of(channel)
        ]

    def lanes_from_history(self) -> set[Lane]:
        """Return the subscriptions that begin with what was sent before they were registered.

        Raises :class:`ChannelNotFound` if the channel of one is not declared.
        """
        return {
            Lane(listener.find_channel().postgres_name(), listener.subscription)
            for listener in self.listeners()
            if listener.start == "history"
        }

    def _subscriptions_of(self, channel: type[BaseChannel]) -> Iterable[str]:
        heard = self.listeners_of(channel) if channel.lock_notifications else []
        return dict.fromkeys(listener.subscription for listener in heard) or [""]

    def paths(self) -> list[str]:
        """Return the dotted path of each listener, in an order that every process finds."""
        return sorted({listener.path for listener in self.listeners()})

    def channels(self) -> list[type[BaseChannel]]:
        """Return the channels that have listeners, in order of declaration."""
        heard = {listener.find_channel() for listener in self.listeners()}
        return [channel for channel in declared_channels() if channel in heard]


registry = Registry()


def publish(messages: list[Any]) -> None:
    """Stand for the relay, as the listener of its subscription.

    ``listen --relay`` publishes messages as they are stored, without a call. Tests alone call
    this, to see what would be published.
    """


@cache
def _publishing(channel: type[BaseChannel]) -> Listener:
    has_rows = issubclass(channel, TriggerChannel)
    return Listener(
        function=publish,
        channel=channel,
        subscription=RELAY,
        timed_events=frozenset(timed_events(RELAYED_EVENTS, "after") if has_rows else ()),
        is_batch=True,
    )


def register(
    channel: Reference,
    timed_events: Iterable[str],
    *,
    subscription: str = "",
    start: Start | None = None,
    is_batch: bool = False,
) -> Callable[[Callback], Callback]:
    """Return a decorator that registers a listener of these events.

    Raises :class:`ChannelNotFound` if *channel* is neither a channel nor a string, and the
    decorator :class:`ValueError` for a name or a *start* that a subscription cannot have.
    """
    if start not in (None, "history"):
        raise ValueError(f'start must be "history" or None, not {start!r}.')
    if not isinstance(channel, str):
        find_channel(channel)  # may raise; a string may name a channel declared later
    module = loading_module()

    def decorate(function: Callback) -> Callback:
        name = channel if isinstance(channel, str) else channel.__qualname__
        path = getattr(function, "__qualname__", repr(function))
        check_name(subscription, f"The listener {path} of {name}")
        listener = Listener(
            function=function,
            channel=channel,
            subscription=subscription,
            start=start,
            timed_events=frozenset(timed_events),
            is_batch=is_batch,
            module=module,
        )
        registry.add(listener)
        return function

    return decorate


def timed_events(events: Iterable[str], when: str) -> list[str]:
    """Return *events* with their timing. Raises :class:`ValueError` for an unknown one."""
    wanted = (events,) if isinstance(events, str) else tuple(events)
    if unknown := set(wanted) - set(EVENTS):
        raise ValueError(f"There is no event {sorted(unknown)[0]!r}: choose from {EVENTS}.")
    return [f"{when}_{event}" for event in wanted]


def batch_listener_of(channel: type[BaseChannel], subscription: str = "") -> Listener | None:
    """Return the batch listener of a *subscription* of *channel*, or None if it has none.

    Raises :class:`OptionError` if it has one that cannot be called.
    """
    heard = registry.listeners_of(channel, subscription)
    found = next((one for one in heard if one.is_batch), None)
    if found is None:
        return None
    others = ", ".join(sorted(one.path for one in heard if one is not found))
    if others:
        raise OptionError(
            f"{found.path} is a batch listener of {dotted_path(channel)}, which also has "
            f"{others}. A batch listener has to be the only one: give it a subscription of its own."
        )
    if not channel.lock_notifications:
        raise OptionError(
            f"{found.path} is a batch listener of {dotted_path(channel)}, which is ephemeral: "
            "nothing stores its messages, so nothing can claim several. Set lock_notifications = "
            "True, or use an ordinary listener."
        )
    return found


def _innermost(function: Callable[..., Any]) -> object:
    """Return *function* without its binding and its decorators."""
    return inspect.unwrap(getattr(function, "__func__", function))


def _code(function: Callable[..., Any]) -> object:
    return getattr(_innermost(function), "__code__", None)


def _place(function: Callable[..., Any]) -> object:
    """Return where the code of *function* is; if it has none, a value unique to it."""
    code: Any = _code(function)
    return (code.co_filename, code.co_firstlineno, code.co_name) if code else id(function)


def listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function with every message of *channel*.

    ::

        @pgpubsub_sql.listener(PostReads)
        def count_read(model_id: int, date: datetime.date): ...

    *channel* is a class, its module path or its name in PostgreSQL. The function may leave out
    fields that it does not need, and may name ``context`` and ``notification``, unless the channel
    has fields of these names.

    Listeners of a durable channel that name the same *subscription*, or none, handle a message
    together: they succeed, fail and are retried as one. Each subscription receives every message
    by itself. A name has up to 63 of the characters ``A-Z a-z 0-9 _ . -``. After a change, run
    ``migrate``.

    A new subscription receives what is sent once it is registered. With ``start="history"`` it
    first receives what was sent before, as far as it is still stored.

    Raises :class:`ChannelNotFound` if *channel* is neither a channel nor a string, and
    :class:`ValueError` for a name or a *start* that a subscription cannot have.
    """
    return register(channel, (), subscription=subscription, start=start)


def trigger_listener(
    channel: Reference,
    *,
    events: Iterable[str] = ("insert", "update"),
    when: Literal["after", "before"] = "after",
    subscription: str = "",
    start: Start | None = None,
) -> Callable[[Callback], Callback]:
    """Call the function when rows of the channel's model change, whatever changes them.

    The other decorators are shorthands for this one. ``events=()`` installs no trigger: write your
    own in SQL, and the function receives every message of the channel. *subscription* and *start*
    are those of :func:`listener`.

    Raises :class:`ValueError` for an unknown event or time, and for a name or a *start* that a
    subscription cannot have.
    """
    if when not in ("after", "before"):
        raise ValueError(f"when must be 'after' or 'before', not {when!r}.")
    return register(channel, timed_events(events, when), subscription=subscription, start=start)


def post_insert_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after a row was inserted, with ``old`` None and ``new`` the row.

    ::

        @pgpubsub_sql.post_insert_listener(AuthorChannel)
        def welcome(new: Author): ...
    """
    return trigger_listener(channel, events=("insert",), subscription=subscription, start=start)


def post_update_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after a row was updated, with ``old`` and ``new``."""
    return trigger_listener(channel, events=("update",), subscription=subscription, start=start)


def post_delete_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after a row was deleted, with ``old`` the row and ``new`` None."""
    return trigger_listener(channel, events=("delete",), subscription=subscription, start=start)


def post_save_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after a row was inserted or updated."""
    return trigger_listener(
        channel, events=("insert", "update"), subscription=subscription, start=start
    )


def post_truncate_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after the table was truncated, with ``old`` and ``new`` both None."""
    return trigger_listener(channel, events=("truncate",), subscription=subscription, start=start)


def pre_insert_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after a row was inserted, with ``new`` as it was just before.

    Like all listeners, ``pre_`` listeners are called once the write is committed. Only the row is
    from before the write: it lacks changes that other triggers then made to it.
    """
    return trigger_listener(
        channel, events=("insert",), when="before", subscription=subscription, start=start
    )


def pre_update_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after an update, with ``old`` and ``new`` as they were just before."""
    return trigger_listener(
        channel, events=("update",), when="before", subscription=subscription, start=start
    )


def pre_delete_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after a row was deleted, with ``old`` as it was just before."""
    return trigger_listener(
        channel, events=("delete",), when="before", subscription=subscription, start=start
    )


def pre_save_listener(
    channel: Reference, *, subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]:
    """Call the function after an insert or update, with the row as it was just before."""
    return trigger_listener(
        channel, events=("insert", "update"), when="before", subscription=subscription, start=start
    )


def field_names(channel: type[BaseChannel]) -> list[str]:
    """Return the names of the fields that *channel* passes to its listeners."""
    return list(codec(channel).fields) if issubclass(channel, Channel) else ["old", "new"]
