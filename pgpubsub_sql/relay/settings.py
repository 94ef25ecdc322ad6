"""The setting ``PGPUBSUB_RELAY``: how to reach the broker, and in which name.

It is never kept in the database: a copy of production that is started elsewhere must not publish.
``docs/reference/settings.md`` describes it for users.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from pgpubsub_sql import conf

NAME = "PGPUBSUB_RELAY"

_ORIGIN = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SERVER = re.compile(r"(nats|tls)://[^\s/@]+(:\d+)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelaySettings:
    """The value of ``PGPUBSUB_RELAY``, each key of which is one of these fields."""

    servers: tuple[str, ...]
    """Addresses of the broker's servers, such as ``"tls://nats-1.example.com:4222"``."""
    origin: str | None = None
    """Name under which this project publishes."""
    sources: tuple[str, ...] = ()
    """Origins whose messages this project receives."""
    partitions: int = 1
    """Streams of each channel that this project publishes."""
    replicas: int = 3
    """Servers that keep each stream: 1, 3 or 5."""
    max_age: datetime.timedelta = datetime.timedelta(days=7)
    """How long the broker keeps a message."""
    credentials: str | None = None
    """File of NATS credentials: a JWT and its seed."""
    nkey_seed: str | None = None
    """File of an NKey's seed."""
    user: str | None = None
    """User name, with a password."""
    password: str | None = dataclasses.field(default=None, repr=False)
    """Password of the user."""
    token: str | None = dataclasses.field(default=None, repr=False)
    """Token, instead of a user."""
    tls_ca: str | None = None
    """File of the certificate authority that the servers' certificates must be signed by."""
    tls_certificate: str | None = None
    """File of the client's certificate."""
    tls_key: str | None = None
    """File of the client certificate's key."""

    @property
    def kept(self) -> datetime.timedelta:
        """How long a receiver remembers a message: a day longer than the broker keeps it."""
        return self.max_age + datetime.timedelta(days=1)

    def publisher(self) -> str:
        """Return the origin; raise :class:`ImproperlyConfigured` if there is none."""
        if self.origin is None:
            raise _wrong("has no 'origin'. Give the name under which this project publishes")
        return self.origin

    def senders(self) -> tuple[str, ...]:
        """Return the sources; raise :class:`ImproperlyConfigured` if there is none."""
        if not self.sources:
            raise _wrong("has no 'sources'. Name the origins whose messages this project receives")
        return self.sources


def relay_settings() -> RelaySettings:
    """Return the value of ``PGPUBSUB_RELAY``.

    Raises :class:`~django.core.exceptions.ImproperlyConfigured` if it is missing, or for a key or a
    value that cannot be used.
    """
    found = relay_settings_if_any()
    if found is None:
        raise ImproperlyConfigured(
            f"{NAME} is not set. It tells how to reach the broker: "
            f"{NAME} = {{'servers': ['nats://127.0.0.1:4222'], 'origin': 'shop'}}"
        )
    return found


def relay_settings_if_any() -> RelaySettings | None:
    """Return what :func:`relay_settings` does, or None if it is missing."""
    given = conf.relay()
    if given is None:
        return None
    if unknown := sorted(map(str, given.keys() - _READERS.keys())):
        known = ", ".join(sorted(_READERS))
        raise _wrong(f"has the unknown key {unknown[0]!r}. It may have: {known}")
    if "servers" not in given:
        raise _wrong("has no 'servers'. Give their addresses, such as ['nats://127.0.0.1:4222']")
    return _consistent(RelaySettings(**{key: _READERS[key](key, given[key]) for key in given}))


def _consistent(found: RelaySettings) -> RelaySettings:
    if (found.user is None) != (found.password is None):
        raise _wrong("must have both 'user' and 'password', or neither")
    if found.tls_key is not None and found.tls_certificate is None:
        raise _wrong("has a 'tls_key' without the 'tls_certificate' that it belongs to")
    if found.origin in found.sources:
        raise _wrong(
            f"has the origin {found.origin!r} among its 'sources': a project does not receive what "
            "it has published itself. Give each project an origin of its own"
        )
    return found


def _wrong(what: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{NAME} {what}.")


def _text(key: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise _wrong(f"has {key!r} = {value!r}: it must be a string that is not empty")


def _secret(key: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise _wrong(f"has a {key!r} that is not a string, or is empty")


def _texts(key: str, value: object, pattern: re.Pattern[str], form: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(f"has {key!r} = {value!r}: it must be a list")
    for one in value:
        if not isinstance(one, str) or not pattern.fullmatch(one):
            raise _wrong(f"has {one!r} among its {key!r}: {form}")
    return tuple(value)


_ORIGIN_FORM = "an origin is 1 to 32 of the characters A-Z, a-z, 0-9, _ and -"
_SERVER_FORM = "an address is written like 'nats://host:4222' or 'tls://host:4222'"


def _servers(key: str, value: object) -> tuple[str, ...]:
    if not (servers := _texts(key, value, _SERVER, _SERVER_FORM)):
        raise _wrong("has no 'servers': the list is empty")
    return servers


def _origins(key: str, value: object) -> tuple[str, ...]:
    return _texts(key, value, _ORIGIN, _ORIGIN_FORM)


def _origin(key: str, value: object) -> str:
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise _wrong(f"has {key!r} = {value!r}: {_ORIGIN_FORM}")
    return value


def _partitions(key: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= 256:
        raise _wrong(f"has {key!r} = {value!r}: it must be an integer from 1 to 256")
    return value


def _replicas(key: str, value: object) -> int:
    if type(value) is not int or value not in (1, 3, 5):
        raise _wrong(f"has {key!r} = {value!r}: it must be 1, 3 or 5")
    return value


def _duration(key: str, value: object) -> datetime.timedelta:
    if not isinstance(value, datetime.timedelta) or value < datetime.timedelta(hours=1):
        raise _wrong(f"has {key!r} = {value!r}: it must be a timedelta of at least an hour")
    return value


_READERS: dict[str, Callable[[str, object], Any]] = {
    "servers": _servers,
    "origin": _origin,
    "sources": _origins,
    "partitions": _partitions,
    "replicas": _replicas,
    "max_age": _duration,
    "credentials": _text,
    "nkey_seed": _text,
    "user": _text,
    "password": _secret,
    "token": _secret,
    "tls_ca": _text,
    "tls_certificate": _text,
    "tls_key": _text,
}
