"""Channels: what travels, and the name under which PostgreSQL knows it. Declaration only."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.machinery import ModuleSpec
from typing import ClassVar, Literal

from django.apps import apps
from django.db.models import Model, Q

from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.payloads import Codec
from pgpubsub_sql.reloading import is_outdated, loading
from pgpubsub_sql.retry import Retry
from pgpubsub_sql.sql import shorten

_declared: list[type[BaseChannel]] = []
_specs: dict[type, ModuleSpec | None] = {}
"""The module by which each class was declared, which need not be its own: it may call a function
of another module that makes classes."""


def dotted_path(declared: type) -> str:
    """Return the path by which a class is known: ``module.QualName``."""
    return f"{declared.__module__}.{declared.__qualname__}"


class BaseChannel:
    """What :class:`Channel` and :class:`TriggerChannel` share: options and a name.

    Options are plain class attributes, never annotated: an annotation makes a field.
    """

    lock_notifications: ClassVar[bool] = False
    """True: durable. Each message is stored in the sender's transaction and its effects in
    this database happen exactly once. False: ephemeral, every listening process handles every
    message that is sent while it listens."""

    channel_name: ClassVar[str | None] = None
    """Name in PostgreSQL, where 63 bytes are kept: a longer one becomes its start and a digest.
    None for ``"<app_label>.<ClassName>"``. It is not inherited."""

    retry: ClassVar[Retry] = Retry()
    """What becomes of a message of a durable channel that failed."""

    timeout: ClassVar[float | None] = None
    """Seconds after which a listener is interrupted, which counts as a failure."""

    ordering_key: ClassVar[str | tuple[str, ...]] = ()
    """Name or names of fields, of a durable channel. Messages in which they are equal are handled
    one at a time, in the order in which they were stored, retries included."""

    batch_size: ClassVar[int | None] = None
    """Upper bound of the messages handled in one transaction; None for as many as go quickly.
    1 is for listeners whose effects outside the database should not be repeated because of
    another message, and for those that need ``atomic(durable=True)``."""

    accept_raw_notify: ClassVar[bool] = True
    """Whether to handle data that is sent by ``pg_notify``, which any role may do that may connect
    to the database. False: only what ``notify()``, triggers and our SQL functions send is handled.
    On trigger channels the default is False, so that rows come from the triggers alone."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        _declared.append(cls)
        _specs[cls] = loading()

    @classmethod
    def ordering_fields(cls) -> tuple[str, ...]:
        """Return the fields of :attr:`ordering_key`; none if messages are in no order."""
        key = cls.ordering_key
        return (key,) if isinstance(key, str) else tuple(key)

    @classmethod
    def postgres_name(cls) -> str:
        """Return the name to use in ``pg_notify`` and ``LISTEN``."""
        own: str | None = vars(cls).get("channel_name")
        return shorten(f"{app_label(cls)}.{cls.__name__}" if own is None else own)


class Channel(BaseChannel):
    """A channel whose messages are sent by ``notify()`` or by SQL.

    ::

        @dataclass
        class PostReads(pgpubsub_sql.Channel):
            model_id: int
            date: datetime.date
    """


class TriggerChannel(BaseChannel):
    """A channel whose messages are sent by the database, when rows of a model change.

    ::

        @dataclass
        class AuthorChannel(pgpubsub_sql.TriggerChannel):
            model = Author
            lock_notifications = True
    """

    accept_raw_notify = False

    model: ClassVar[type[Model] | str]
    """The model that is watched: a class or a label as ``"auth.User"``."""

    columns: ClassVar[str | tuple[str, ...] | None] = None
    """Names of the fields that travel; None for all. The primary key and the ordering key always
    do; ``()`` sends nothing else. Those left out are deferred on the instances of listeners."""

    exclude: ClassVar[str | tuple[str, ...]] = ()
    """Names of the fields that do not travel, where all others do."""

    watch: ClassVar[str | tuple[str, ...]] = ()
    """Names of fields: an UPDATE of a row counts only if one of them has changed."""

    condition: ClassVar[Q | None] = None
    """What must hold for a change to count, over the fields of the row before it and after:
    ``Q(old__status="draft", new__status="published")``. Where there is no such row, as before an
    INSERT and after a DELETE, all of its fields are NULL."""

    level: ClassVar[Literal["statement", "row"]] = "statement"
    """How often the triggers AFTER the fact fire: once for all the rows of a statement, or for
    each of them. Those of a table with partitions always fire by row, as those BEFORE do."""

    ignorable: ClassVar[bool] = True
    """False: ``ignore()`` and the setting ``pgpubsub.ignore`` do not silence the triggers. An audit
    needs that."""

    unmanaged: ClassVar[bool] = False
    """True: the model has ``managed = False``, and a table that is there before ``migrate`` runs.
    Where it is not there, as in a test database, nothing is installed."""


def app_label(channel: type[BaseChannel]) -> str:
    """Return the label of the app that declares *channel*; of no app, its module's first part."""
    config = apps.get_containing_app_config(channel.__module__)
    return config.label if config else channel.__module__.partition(".")[0]


def model_of(channel: type[TriggerChannel]) -> type[Model]:
    """Return the model of *channel*.

    Raises :class:`LookupError` if it is not installed, :class:`AttributeError` if none is named.
    """
    model = channel.model
    return apps.get_model(model) if isinstance(model, str) else model


def codec(channel: type[Channel]) -> Codec:
    """Return what encodes and decodes the fields of *channel*."""
    return _codec(channel)  # type: ignore[arg-type]  # mypy reads __hash__ off its instances


@cache
def _codec(channel: type[Channel]) -> Codec:
    return Codec(channel, channel.postgres_name())


def declared_channels() -> list[type[BaseChannel]]:
    """Return every declared channel and base class of channels, in order of declaration.

    Of what a module declared before it was loaded again, nothing.
    """
    found = {
        _fields_id(channel): channel
        for channel in _declared
        if channel not in (Channel, TriggerChannel) and not is_outdated(_specs.get(channel))
    }
    return list(found.values())


def current(channel: type[BaseChannel]) -> type[BaseChannel]:
    """Return what stands in the place of *channel*, if its module was loaded again."""
    if not is_outdated(_specs.get(channel)):
        return channel
    later = [other for other in declared_channels() if _identity(other) == _identity(channel)]
    return later[-1] if later else channel


def find_channel(reference: type[BaseChannel] | str) -> type[BaseChannel]:
    """Return the channel that *reference* names: a class, its module path or its Postgres name.

    Raises :class:`ChannelNotFound`, with a suggestion where one comes close, and for a path that
    leads to several channels, as a function may make them.
    """
    if not isinstance(reference, str):
        return _checked(reference)
    declared = declared_channels()
    names = {channel.postgres_name(): channel for channel in declared}
    at_path = [channel for channel in declared if dotted_path(channel) == reference]
    if len(at_path) > 1:
        raise ChannelNotFound(_ambiguous(reference, at_path))
    found = at_path[0] if at_path else names.get(shorten(reference)) or _exported(reference)
    if found is None:
        raise ChannelNotFound(_unknown(reference, [*names, *map(dotted_path, declared)]))
    return found


def select_channels(
    references: Iterable[type[BaseChannel] | str], among: Iterable[type[BaseChannel]]
) -> list[type[BaseChannel]]:
    """Return those of *among* that are, or descend from, a channel in *references*."""
    bases = tuple(find_channel(reference) for reference in references)
    return [channel for channel in among if issubclass(channel, bases)]


def _fields_id(channel: type[BaseChannel]) -> int:
    """Return the same for both classes that ``dataclass(slots=True)`` makes of one."""
    return id(vars(channel).get("__dataclass_fields__", channel))


def _identity(channel: type[BaseChannel]) -> tuple[str, str | None]:
    """Return what :meth:`BaseChannel.postgres_name` is made of. The apps need not be ready."""
    return dotted_path(channel), vars(channel).get("channel_name")


def _exported(reference: str) -> type[BaseChannel] | None:
    """Return the class that a module has imported from where it was declared, as our own has."""
    module, _, name = reference.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    is_channel = isinstance(found, type) and issubclass(found, (Channel, TriggerChannel))
    return found if is_channel else None


def _checked(reference: object) -> type[BaseChannel]:
    if isinstance(reference, type) and issubclass(reference, BaseChannel):
        return reference
    raise ChannelNotFound(
        f"{reference!r} is not a channel: give a subclass of Channel or TriggerChannel, its "
        "module path or its name in PostgreSQL."
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
    return f"{reference!r} leads to several channels: give the name of one, of {names}."
