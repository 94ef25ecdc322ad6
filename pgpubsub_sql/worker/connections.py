"""How a worker connects: to listen, on a connection of its own, and to work, on Django's."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

from django.db import connections

from pgpubsub_sql.django_internals import (
    close_pool,
    connect_under,
    database_errors,
    has_pool,
    is_psycopg3,
    new_wrapper,
)
from pgpubsub_sql.sql import query, render

LISTEN, WORK = "pgpubsub_sql listen", "pgpubsub_sql work"
"""How PostgreSQL shows a worker's two connections; the query ``workers`` counts the first. What
the worker is called, or else what the project calls its connections, follows in parentheses."""

CONNECT_SECONDS = 10
"""How long connecting may take, unless the project has a ``connect_timeout`` of its own."""

KEEPALIVE = {
    "keepalives_idle": (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), 15),
    "keepalives_interval": (("TCP_KEEPINTVL",), 5),
    "keepalives_count": (("TCP_KEEPCNT",), 3),
    "tcp_user_timeout": (("TCP_USER_TIMEOUT",), 30_000),
}
"""A network that falls silent is noticed after 30 seconds, whether an answer is awaited, a query is
being sent, or nothing happens. By libpq's parameter: what systems call it, and its value."""

_numbers = itertools.count(1)


def listening_connection(using: str) -> Any:
    """Return a new wrapper of the alias *using*, connected, which nobody else is lent.

    The project's engine connects, with the project's settings, and receivers of
    ``connection_created`` run, so that the session is like the one that listeners have.
    """
    settings = _settings(connections[using]) | {"AUTOCOMMIT": True}
    wrapper = new_wrapper(using, settings)
    # Under another alias, because engines have one pool for each alias.
    connect_under(wrapper, f"{using} listen {next(_numbers)}")
    wrapper.connect()
    return wrapper


def adopt(using: str) -> None:
    """Let Django's connection, unless it is connected, be opened as a worker wants it.

    One that Django's pool has lent is handed back before.
    """
    django: Any = connections[using]
    if has_pool(django) and not django.in_atomic_block:
        django.close()
    if django.connection is None:
        close_pool(django)
        django.settings_dict = _settings(django)


def prepare(wrapper: Any, purpose: str, name: str = "") -> None:
    """Make a session that is the worker's alone fit for it; *purpose* is how it is shown."""
    execute(wrapper, render("queries/prepare_session", local="false"))
    given = name or _parameters(wrapper.connection).get("application_name")
    _set(wrapper, "application_name", f"{purpose} ({given})" if given else purpose)


def follow(wrapper: Any) -> None:
    """Let names mean the same to *wrapper* as to Django's connection.

    Engines for tenants know a schema that only their wrapper has.
    """
    with connections[wrapper.alias].cursor() as cursor:
        cursor.execute(query("get_setting"), {"name": "search_path"})
        ((path,),) = cursor.fetchall()
    _set(wrapper, "search_path", path)


def is_pooled(wrapper: Any, pid: int) -> bool:
    """Whether *pid*, which says to be the backend, is another than the one connected to."""
    return bool(pid != wrapper.connection.info.backend_pid)


def keep_alive(wrapper: Any) -> None:
    """Let the system notice that the server is gone, however the connection was made."""
    given = _parameters(wrapper.connection)
    with socket.socket(fileno=os.dup(wrapper.connection.fileno())) as sock:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        for parameter, (names, value) in KEEPALIVE.items():
            is_off = parameter.startswith("keepalives") and given.get("keepalives") == "0"
            if not is_off and parameter not in given:
                _set_option(sock, names, value)


def execute(wrapper: Any, text: str, parameters: object = None) -> list[Any]:
    """Execute *text* past Django, whose engines add to what is asked of a cursor."""
    with database_errors(wrapper), closing(wrapper.connection.cursor()) as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def backend(wrapper: Any) -> int:
    """Return the id of the process that answers."""
    ((pid,),) = execute(wrapper, "SELECT pg_backend_pid()")
    return int(pid)


@contextmanager
def listening(using: str) -> Iterator[Any]:
    """A :func:`listening_connection` for a while."""
    wrapper = listening_connection(using)
    try:
        yield wrapper
    finally:
        hang_up(wrapper)


def hang_up(wrapper: Any) -> None:
    """Close a connection for good, rather than to hand it back to its engine's pool."""
    raw, wrapper.connection = wrapper.connection, None
    if raw is not None:
        # What SQLAlchemy's pools lend, to which close() means to be handed back.
        getattr(raw, "invalidate", raw.close)()
    # Engines for tenants forget then what they have set on it.
    wrapper.close()


def _settings(django: Any) -> dict[str, Any]:
    """Return the project's settings for a connection: not Django's pool, and not for ever."""
    options = {"connect_timeout": CONNECT_SECONDS, **django.settings_dict["OPTIONS"]}
    options.pop("pool", None)
    return {**django.settings_dict, "OPTIONS": options}


def _parameters(raw: Any) -> Mapping[str, str]:
    """Return libpq's parameters that somebody has set, be it in a service file."""
    return raw.info.get_parameters() if is_psycopg3 else raw.info.dsn_parameters  # type: ignore[no-any-return]


def _set(wrapper: Any, name: str, value: str) -> None:
    execute(wrapper, query("set_setting"), {"name": name, "value": value, "local": False})


def _set_option(sock: socket.socket, names: tuple[str, ...], value: int) -> None:
    for name in names:
        if hasattr(socket, name):
            with suppress(OSError):  # a system that does not let it be set
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            return
