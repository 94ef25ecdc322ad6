"""Connections of a worker: one of its own to listen on, and Django's to work on."""

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
    copy_settings,
    database_errors,
    has_pool,
    is_in_atomic_block,
    is_psycopg3,
    new_wrapper,
    options_of,
    replace_settings,
)
from pgpubsub_sql.sql import query, render

TAIL = "pgpubsub_sql tail"
"""``application_name`` of a session that only watches."""

RELAY = "pgpubsub_sql relay"
"""``application_name`` of the session on which a relay listens for what it is to publish."""

LISTEN, WORK, DISPLAY = "pgpubsub_sql listen", "pgpubsub_sql work", "pgpubsub_sql display"
"""``application_name`` of a worker's two connections, of which the query ``workers`` counts the
first, and of that by which its supervisor shows what takes long. The name of the worker, or else
the project's own ``application_name``, follows in parentheses."""

CONNECT_SECONDS = 10
"""Default of ``connect_timeout``."""

KEEPALIVE = {
    "keepalives_idle": (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), 15),
    "keepalives_interval": (("TCP_KEEPINTVL",), 5),
    "keepalives_count": (("TCP_KEEPCNT",), 3),
    "tcp_user_timeout": (("TCP_USER_TIMEOUT",), 30_000),
}
"""Socket options by libpq's parameter: their names in :mod:`socket`, and a value. A silent network
is noticed after 30 seconds, whether the connection waits, sends, or is idle."""

_numbers = itertools.count(1)


def listening_connection(using: str) -> Any:
    """Return a new, connected wrapper of the alias *using*, outside any pool.

    The project's engine connects with the project's settings, and receivers of
    ``connection_created`` run, so that the session is like the one that listeners use.
    """
    settings = _settings(connections[using]) | {"AUTOCOMMIT": True}
    wrapper = new_wrapper(using, settings)
    # Under another alias, because engines have one pool for each alias.
    connect_under(wrapper, f"{using} listen {next(_numbers)}")
    wrapper.connect()
    return wrapper


def open_for_worker(using: str) -> None:
    """Have Django's connection opened as a worker needs it, unless it is open already.

    A connection that Django's pool has lent is returned first.
    """
    django: Any = connections[using]
    if has_pool(django) and not is_in_atomic_block(django):
        django.close()
    if django.connection is None:
        close_pool(django)
        replace_settings(django, _settings(django))


def prepare(wrapper: Any, purpose: str, name: str = "") -> None:
    """Prepare a session that only the worker uses; *purpose* becomes its ``application_name``."""
    execute(wrapper, render("queries/prepare_session", local="false"))
    set_setting(wrapper, "application_name", named(wrapper, purpose, name))


def named(wrapper: Any, purpose: str, name: str) -> str:
    """Return the ``application_name`` of a session that serves a *purpose*."""
    given = name or _parameters(wrapper.connection).get("application_name")
    return f"{purpose} ({given})" if given else purpose


def follow(wrapper: Any) -> None:
    """Copy the search_path of Django's connection to *wrapper*.

    Engines for tenants set it on Django's connection only.
    """
    with connections[wrapper.alias].cursor() as cursor:
        cursor.execute(query("get_setting"), {"name": "search_path"})
        ((path,),) = cursor.fetchall()
    set_setting(wrapper, "search_path", path)


def is_pooled(wrapper: Any, pid: int) -> bool:
    """Return whether the backend *pid* that answers is not the one that was connected to."""
    return bool(pid != wrapper.connection.info.backend_pid)


def keep_alive(wrapper: Any) -> None:
    """Have the operating system notice that the server is gone."""
    given = _parameters(wrapper.connection)
    with socket.socket(fileno=os.dup(wrapper.connection.fileno())) as sock:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        for parameter, (names, value) in KEEPALIVE.items():
            is_off = parameter.startswith("keepalives") and given.get("keepalives") == "0"
            if not is_off and parameter not in given:
                _set_option(sock, names, value)


def execute(wrapper: Any, text: str, parameters: object = None) -> list[Any]:
    """Execute *text* with the driver's cursor, as engines add queries to Django's."""
    with database_errors(wrapper), closing(wrapper.connection.cursor()) as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def backend(wrapper: Any) -> int:
    """Return the process id of the backend that answers."""
    ((pid,),) = execute(wrapper, "SELECT pg_backend_pid()")
    return int(pid)


@contextmanager
def listening(using: str) -> Iterator[Any]:
    """Open a :func:`listening_connection` for the block."""
    wrapper = listening_connection(using)
    try:
        yield wrapper
    finally:
        hang_up(wrapper)


def hang_up(wrapper: Any) -> None:
    """Close a connection for good, instead of returning it to its engine's pool."""
    raw, wrapper.connection = wrapper.connection, None
    if raw is not None:
        # For a connection of SQLAlchemy's pools, close() means to return it.
        getattr(raw, "invalidate", raw.close)()
    # Engines for tenants then forget what they have set on it.
    wrapper.close()


def _settings(django: Any) -> dict[str, Any]:
    """Return the project's settings, without Django's pool and with a ``connect_timeout``."""
    options = {"connect_timeout": CONNECT_SECONDS, **options_of(django)}
    options.pop("pool", None)
    return copy_settings(django, options)


def _parameters(raw: Any) -> Mapping[str, str]:
    """Return libpq's parameters that have been set, for example in a service file."""
    return raw.info.get_parameters() if is_psycopg3 else raw.info.dsn_parameters  # type: ignore[no-any-return]


def set_setting(wrapper: Any, name: str, value: str) -> None:
    """Set a setting of PostgreSQL for the rest of the session."""
    execute(wrapper, query("set_setting"), {"name": name, "value": value, "local": False})


def _set_option(sock: socket.socket, names: tuple[str, ...], value: int) -> None:
    for name in names:
        if hasattr(socket, name):
            with suppress(OSError):  # not supported by this system
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            return
