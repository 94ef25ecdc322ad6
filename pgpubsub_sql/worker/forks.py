"""What a process that is forked from this one does first: it leaves alone what is not its own."""

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
"""Another number in each process that was forked since. Read for every message."""


@contextmanager
def in_forks(function: Callable[[], object]) -> Iterator[None]:
    """Have *function* called in each process that is forked within the block.

    By whatever means: ``os.fork()``, ``multiprocessing``. A process that executes another program,
    such as those of ``subprocess``, needs nothing of the kind.
    """
    _functions.append(function)
    try:
        yield
    finally:
        with suppress(ValueError):  # it has been called, in this fork
            _functions.remove(function)


class _Held(threading.local):
    """The signals that a thread had blocked before it began to fork."""

    mask: set[int] | None = None


_held = _Held()


def _before() -> None:
    # A signal for the child may come before it has let go of our handlers, and must wait.
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
    """End this process, which a listener has forked, as one that ends with *error*.

    It has come back from the listener. What comes next is the work of the process it was forked
    from.
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
    """Let go of the socket of the driver's connection *raw*, without a word to the server.

    The process that it belongs to goes on using it, and the server sees its end when that process
    dies, however long this one lives. Here, each use of it fails, as if the server had gone. The
    number stays taken: libpq still writes to it, and must not meet another file.
    """
    with suppress(Exception):  # closed already
        dead, other = socket.socketpair()
        with dead, other:
            other.close()
            os.dup2(dead.fileno(), raw.fileno(), inheritable=False)


def disown(connection: Any) -> None:
    """Make Django's *connection* open one of its own when it is used in this process."""
    if connection.connection is None:
        return
    sever(connection.connection)
    keep_execute_wrappers(connection, lambda one: not _is_ours(one))
    leave_transaction(connection)  # or it would not be replaced
    with suppress(Exception):
        connection.close()
    connection.connection = None


def _is_ours(wrapper: Any) -> bool:
    return str(getattr(wrapper, "__module__", "")).startswith("pgpubsub_sql.")
