"""Declaration of channels: their options, their names in PostgreSQL, and how they are found."""

from __future__ import annotations

import datetime
import difflib
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib.machinery import ModuleSpec
from typing import Any, ClassVar, Literal, get_type_hints

from django.apps import apps
from django.db.models import Model, Q

from pgpubsub_sql import conf
from pgpubsub_sql.django_internals import app_label_of
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.payloads import Codec
from pgpubsub_sql.retry import Retry
from pgpubsub_sql.sql import shorten

_declared: list[type[BaseChannel]] = []
_specs: dict[type, ModuleSpec | None] = {}
"""The module whose import declared each class. It may be another than the class's own, if it calls
a function there that makes classes."""

Declarations = tuple[list["type[BaseChannel]"], int]

_SCRIPTS = ("__main__", "__mp_main__")
"""Modules of scripts, which may also be imported under another name."""


def dotted_path(declared: type) -> str:
    """Return the dotted path of a class: ``module.QualName``."""
    return f"{declared.__module__}.{declared.__qualname__}"


def loading_module() -> ModuleSpec | None:
    """Return the spec of the module whose import calls this, if an import does."""
    frame = sys._getframe(1)
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    names = frame.f_globals
    spec = names.get("__spec__") if names.get("__name__") not in _SCRIPTS else None
    return spec if isinstance(spec, ModuleSpec) else None


def is_outdated(spec: ModuleSpec | None) -> bool:
    """Whether the module of *spec* was loaded again since; Python then gives it a new spec."""
    module = sys.modules.get(spec.name) if spec else None
    return module is not None and module.__spec__ is not spec


class BaseChannel:
    """Options that :class:`Channel` and :class:`TriggerChannel` share.

    Options are class attributes without annotations: an annotation would make them fields.
    """

    lock_notifications: ClassVar[bool] = False
    """True makes the channel durable: each message is stored in the sender's transaction, and its
    effects in this database happen exactly once. False makes it ephemeral: every listening process
    handles every message that is sent while it listens."""

    channel_name: ClassVar[str | None] = None
    """Name in PostgreSQL; None for ``"<app_label>.<ClassName>"``. A name of more than 63 bytes is
    shortened to its start and a digest. Not inherited."""

    retry: ClassVar[Retry] = Retry()
    """When a failed message of a durable channel is tried again."""

    timeout: ClassVar[float | None] = None
    """Seconds after which a listener is interrupted; this counts as a failure."""

    ordering_key: ClassVar[str | tuple[str, ...]] = ()
    """Field or fields of a durable channel. Messages that are equal in them are handled one at a
    time, in the order in which they were stored, retries included."""

    batch_size: ClassVar[int | None] = None
    """Maximum number of messages handled in one transaction; None for as many as go quickly.
    Use 1 for listeners whose effects outside the database must not be repeated because another
    message failed, and for those that need ``atomic(durable=True)``."""

    keep: ClassVar[datetime.timedelta | None] = None
    """For how long messages of a durable channel are kept once they are handled; None: they are
    deleted. ``pgpubsub history`` shows them, and ``replay`` sends them again. After a change, run
    ``migrate``."""

    received_from: ClassVar[Literal["nats"] | None] = None
    """``"nats"``: messages of this durable channel come from other databases, by a broker. Nothing
    sends on it here, and a trigger channel installs no triggers. None: they are sent in this
    database."""

    relay: ClassVar[bool] = False
    """True: ``listen --relay`` publishes the messages of this durable channel to other databases,
    by a broker. A trigger channel then has triggers for inserts, updates and deletes, also without
    listeners here. After a change, run ``makemigrations`` and ``migrate``."""

    notify: ClassVar[bool | None] = None
    """Whether writers notify workers of messages of a durable channel. False: workers poll, so a
    message may wait for up to 10 seconds, and its transaction may be prepared (two-phase commit).
    None: as the setting ``PGPUBSUB_NOTIFY`` says. After a change, run ``migrate``."""

    accept_raw_notify: ClassVar[bool] = True
    """Whether to handle what is sent by ``pg_notify``, which every role may call that can connect
    to the database. False: only messages of ``notify()``, triggers and our SQL functions are
    handled. The default for trigger channels is False, so that rows come from triggers alone."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        _declared.append(cls)
        _specs[cls] = loading_module()

    @classmethod
    def ordering_fields(cls) -> tuple[str, ...]:
        """Return the fields of :attr:`ordering_key`, as a tuple."""
        key = cls.ordering_key
        return (key,) if isinstance(key, str) else tuple(key)

    @classmethod
    def postgres_name(cls) -> str:
        """Return the channel's name in ``pg_notify`` and ``LISTEN``."""
        own: str | None = vars(cls).get("channel_name")
        return shorten(f"{app_label(cls)}.{cls.__name__}" if own is None else own)


class Channel(BaseChannel):
    """A channel on which ``notify()`` or SQL sends.

    ::

        @dataclass
        class PostReads(pgpubsub_sql.Channel):
            model_id: int
            date: datetime.date
    """


class TriggerChannel(BaseChannel):
    """A channel on which the database sends when rows of a model change.

    ::

        @dataclass
        class AuthorChannel(pgpubsub_sql.TriggerChannel):
            model = Author
            lock_notifications = True
    """

    accept_raw_notify = False

    model: ClassVar[type[Model] | str]
    """The watched model: a class, or a label such as ``"auth.User"``."""

    columns: ClassVar[str | tuple[str, ...] | None] = None
    """Names of the fields that travel; None for all, ``()`` for the primary key and the ordering
    key alone, which always travel. Listeners get instances on which the others are deferred."""

    exclude: ClassVar[str | tuple[str, ...]] = ()
    """Names of the fields that do not travel; all others do."""

    watch: ClassVar[str | tuple[str, ...]] = ()
    """Names of fields: an UPDATE is sent only if one of them has changed."""

    condition: ClassVar[Q | None] = None
    """A condition on the row before and after the change, without which the change is not sent:
    ``Q(old__status="draft", new__status="published")``. If there is no such row, as before an
    INSERT and after a DELETE, all of its fields are NULL."""

    level: ClassVar[Literal["statement", "row"]] = "statement"
    """Whether AFTER triggers fire once per statement, for all of its rows, or once per row. BEFORE
    triggers, and all triggers of partitioned tables, always fire per row."""

    ignorable: ClassVar[bool] = True
    """False: ``ignore()`` and the setting ``pgpubsub.ignore`` do not silence the triggers, as an
    audit trail needs."""

    unmanaged: ClassVar[bool] = False
    """True for a model with ``managed = False`` whose table exists before ``migrate`` runs. If it
    does not exist, as in a test database, nothing is installed."""


for _base in (BaseChannel, TriggerChannel):
    # Resolved once: get_type_hints() evaluates the annotations of all base classes, if these are
    # strings, for each channel anew.
    _hints = get_type_hints(_base, include_extras=True)
    _base.__annotations__ = {name: _hints[name] for name in _base.__annotations__}


def is_notified(channel: type[BaseChannel]) -> bool:
    """Return whether writers notify workers of stored messages of *channel*."""
    return conf.is_notify_used() if channel.notify is None else channel.notify


def longest_keep() -> datetime.timedelta | None:
    """Return the longest time for which a channel keeps its messages; None if none keeps any."""
    kept = [one.keep for one in declared_channels() if one.lock_notifications and one.keep]
    return max(kept, default=None)


def exceptional_names() -> list[str]:
    """Return the names of the channels that differ from the setting ``PGPUBSUB_NOTIFY``."""
    usual = conf.is_notify_used()
    found = {one.postgres_name() for one in declared_channels() if is_notified(one) != usual}
    return sorted(found)


def notified_names(names: Iterable[str]) -> list[str]:
    """Return those *names* of channels, declared or not, whose writers notify."""
    usual, exceptional = conf.is_notify_used(), exceptional_names()
    return [name for name in names if (name in exceptional) != usual]


def app_label(channel: type[BaseChannel]) -> str:
    """Return the label of the app that declares *channel*, or else its top-level package."""
    return app_label_of(channel.__module__) or channel.__module__.partition(".")[0]


def model_of(channel: type[TriggerChannel]) -> type[Model]:
    """Return the model of *channel*.

    Raises :class:`LookupError` if it is not installed, and :class:`AttributeError` if none is set.
    """
    model = channel.model
    return apps.get_model(model) if isinstance(model, str) else model


def key_names(channel: type[BaseChannel]) -> list[str]:
    """Return the names that the fields of the ordering key have in a payload."""
    names = channel.ordering_fields()
    if issubclass(channel, TriggerChannel):
        options: Any = model_of(channel)._meta
        named = [options.pk_fields if name == "pk" else [options.get_field(name)] for name in names]
        return [field.column for fields in named for field in fields]
    return list(names)


def codec(channel: type[Channel]) -> Codec:
    """Return the codec of the fields of *channel*."""
    return _codec(channel)  # type: ignore[arg-type]  # mypy reads __hash__ off its instances


@cache
def _codec(channel: type[Channel]) -> Codec:
    return Codec(channel, channel.postgres_name())


def declared_channels() -> list[type[BaseChannel]]:
    """Return all declared channels and base classes of channels, in order of declaration.

    What a module declared before it was reloaded does not count.
    """
    return _once(channel for channel in _declared if channel not in (Channel, TriggerChannel))


def declarations() -> Declarations:
    """Return a value that differs as soon as another channel is declared."""
    return _declared, len(_declared)


def relayed_channels() -> list[type[BaseChannel]]:
    """Return the durable channels whose messages are published, in order of declaration."""
    return _once(filter(is_relayed, _declared))


def is_relayed(channel: type[BaseChannel]) -> bool:
    """Return whether *channel* is durable and its messages are published."""
    return channel.relay is True and channel.lock_notifications and not _is_gone(channel)


def _once(channels: Iterable[type[BaseChannel]]) -> list[type[BaseChannel]]:
    found = {_fields_id(channel): channel for channel in channels if not _is_gone(channel)}
    return list(found.values())


def current(channel: type[BaseChannel]) -> type[BaseChannel]:
    """Return the class that replaces *channel* if its module was reloaded; else *channel*."""
    if not _is_gone(channel):
        return channel
    later = [other for other in declared_channels() if _identity(other) == _identity(channel)]
    return later[-1] if later else channel


def find_channel(reference: type[BaseChannel] | str) -> type[BaseChannel]:
    """Return the channel that *reference* names: a class, its module path or its Postgres name.

    Raises :class:`ChannelNotFound`, with a similar name if there is one; also for a path that
    several channels have, as a function may make them.
    """
    if not isinstance(reference, str):
        return _checked(reference)
    known_to, found = _found.get(reference, (None, None))
    if found is None or known_to != declarations() or _is_gone(found):
        found = _find(reference)
        _found[reference] = declarations(), found
    return found


_found: dict[str, tuple[Declarations, type[BaseChannel]]] = {}
"""What a string names, as long as no other channel is declared: a worker of a thousand channels
asks for it thousands of times."""


def _is_gone(channel: type[BaseChannel]) -> bool:
    return is_outdated(_specs.get(channel))


def _find(reference: str) -> type[BaseChannel]:
    """Look for what *reference* names among all channels, and note what the others are called."""
    declared = declared_channels()
    names = {channel.postgres_name(): channel for channel in declared}
    paths: dict[str, list[type[BaseChannel]]] = defaultdict(list)
    for channel in declared:
        paths[dotted_path(channel)].append(channel)
    at_path = paths.get(reference, [])
    if len(at_path) > 1:
        raise ChannelNotFound(_ambiguous(reference, at_path))
    found = at_path[0] if at_path else names.get(shorten(reference)) or _exported(reference)
    if found is None:
        raise ChannelNotFound(_unknown(reference, [*names, *paths]))
    only = {path: same[0] for path, same in paths.items() if len(same) == 1}
    free = {name: one for name, one in names.items() if name not in paths}
    _found.update((name, (declarations(), one)) for name, one in (only | free).items())
    return found


def select_channels(
    references: Iterable[type[BaseChannel] | str], among: Iterable[type[BaseChannel]]
) -> list[type[BaseChannel]]:
    """Return the channels *among* these that are, or derive from, one of the *references*."""
    bases = tuple(find_channel(reference) for reference in references)
    return [channel for channel in among if issubclass(channel, bases)]


def _fields_id(channel: type[BaseChannel]) -> int:
    """Return an id that both classes share that ``dataclass(slots=True)`` makes of one."""
    return id(vars(channel).get("__dataclass_fields__", channel))


def _identity(channel: type[BaseChannel]) -> tuple[str, str | None]:
    """Return what determines :meth:`BaseChannel.postgres_name`, without asking the app registry."""
    return dotted_path(channel), vars(channel).get("channel_name")


def _exported(reference: str) -> type[BaseChannel] | None:
    """Return the class at a path that imports it from where it is declared, as our package does."""
    module, _, name = reference.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    is_channel = isinstance(found, type) and issubclass(found, (Channel, TriggerChannel))
    return found if is_channel else None


def _checked(reference: object) -> type[BaseChannel]:
    if isinstance(reference, type) and issubclass(reference, BaseChannel):
        return reference
    raise ChannelNotFound(
        f"{reference!r} is not a channel: name a subclass of Channel or TriggerChannel, its module "
        "path or its name in PostgreSQL."
    )


def _unknown(reference: str, known: list[str]) -> str:
    close = difflib.get_close_matches(reference, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"No channel is called {reference!r}.{hint} A channel is found once its module is "
        "imported: put it into the channels.py of an installed app."
    )


def _ambiguous(reference: str, channels: list[type[BaseChannel]]) -> str:
    names = ", ".join(repr(channel.postgres_name()) for channel in channels)
    return f"{reference!r} is the path of several channels: use one of their names, {names}."
