"""Forks: keeps the worker's connections, signals and work from processes that listeners fork."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from pgpubsub_sql.django_internals import keep_execute_wrappers, leave_transaction

_functions: list[Callable[[], object]] = []
generation = 0
"""Incremented in each forked process, so that a dispatcher notices a fork."""


@contextmanager
def in_forks(function: Callable[[], object]) -> Iterator[None]:
    """Have *function* called in each process that is forked within the block.

    That includes ``os.fork()`` and ``multiprocessing``. A process that executes another program, as
    with ``subprocess``, does not need it.
    """
    _functions.append(function)
    try:
        yield
    finally:
        with suppress(ValueError):  # in a fork, it has been called and removed
            _functions.remove(function)


class _Held(threading.local):
    """The signals that the thread had blocked before it forked."""

    mask: set[int] | None = None


_held = _Held()


def _before() -> None:
    # Hold signals back until the child has removed our handlers.
    if _functions:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _after() -> None:
    if _held.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)
        _held.mask = None


def _after_in_child() -> None:
    global generation
    generation += 1
    try:
        while _functions:
            _functions.pop()()
    finally:
        _after()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)


def leave(error: BaseException | None = None) -> NoReturn:
    """End this process, which a listener has forked, with the exit status that *error* implies.

    It has returned from the listener. Whatever follows is its parent's work.
    """
    status = 0
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        status = error.code or 0
    elif error is not None:
        status = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def sever(raw: Any) -> None:
    """Detach the driver's connection *raw* from its socket, without a message to the server.

    Its owner goes on using the socket, and the server notices when the owner dies, however long
    this process lives. Here, any use of the connection fails, as if the server were gone. The file
    descriptor stays in use, because libpq still writes to it and must not write to another file.
    """
    with suppress(Exception):  # closed already
        dead, other = socket.socketpair()
        with dead, other:
            other.close()
            os.dup2(dead.fileno(), raw.fileno(), inheritable=False)


def disown(connection: Any) -> None:
    """Have Django's *connection* opened anew when it is used in this process."""
    if connection.connection is None:
        return
    sever(connection.connection)
    keep_execute_wrappers(connection, lambda one: not _is_ours(one))
    leave_transaction(connection)  # or Django would not open a new one
    with suppress(Exception):
        connection.close()
    connection.connection = None


def _is_ours(wrapper: Any) -> bool:
    return str(getattr(wrapper, "__module__", "")).startswith("pgpubsub_sql.")


@contextmanager
def held(lock: threading.Lock) -> Iterator[bool]:
    """Hold *lock*, unless another thread does; yield whether it is held."""
    is_held = lock.acquire(blocking=False)
    try:
        yield is_held
    finally:
        if is_held:
            lock.release()
