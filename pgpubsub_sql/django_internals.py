"""Django's private API: whatever this package uses of Django that Django does not document.

Each function says what it relies on. All of it is the same in Django 5.2, 6.0 and 6.1: compare this
file with the source of the next release before it is supported.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, cast

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import is_psycopg3 as is_psycopg3  # or psycopg2
from django.db.models import Model, QuerySet

Callback = Callable[[], None]

# --- Connections


def new_wrapper(using: str, settings: dict[str, Any]) -> Any:
    """Return another wrapper of an alias, not connected: ``DatabaseWrapper(settings, alias)``."""
    return type(connections[using])(settings, using)


def connect_under(wrapper: Any, alias: str) -> None:
    """Have *wrapper* be called *alias* while it connects: ``get_new_connection()``."""
    connect, usual = wrapper.get_new_connection, wrapper.alias

    def get_new_connection(parameters: dict[str, Any]) -> Any:
        wrapper.alias = alias
        try:
            return connect(parameters)
        finally:
            wrapper.alias = usual

    wrapper.get_new_connection = get_new_connection


def has_pool(wrapper: Any) -> bool:
    """Whether the settings ask for a pool: ``OPTIONS["pool"]``, as the backend reads it."""
    return bool(wrapper.settings_dict["OPTIONS"].get("pool"))


def close_pool(wrapper: Any) -> None:
    """Close the pool that Django keeps for an alias, if it has one: ``close_pool()``.

    An engine with a pool of its own may call that ``pool``, too; closing its connections closes it.
    """
    if has_pool(wrapper):
        wrapper.close_pool()


def driver_error(using: str) -> type[Exception]:
    """Return the driver's base class of errors: ``wrapper.Database.Error``."""
    wrapper: Any = connections[using]
    return cast(type[Exception], wrapper.Database.Error)


def database_errors(wrapper: Any) -> AbstractContextManager[None]:
    """Raise the driver's errors as Django's within the block: ``wrap_database_errors``."""
    return cast(AbstractContextManager[None], wrapper.wrap_database_errors)


def forget_queries(wrapper: Any) -> None:
    """Empty the log of queries that DEBUG fills: ``queries_log``.

    ``force_debug_cursor`` says that a test reads it.
    """
    if not wrapper.force_debug_cursor:
        wrapper.queries_log.clear()


@contextmanager
def execute_wrapper(wrapper: Any, function: Any) -> Iterator[int]:
    """Put *function* around the queries within the block: ``execute_wrappers``.

    Yield how many such functions there are then. Those that others add inside end with the block.
    """
    before = list(wrapper.execute_wrappers)
    wrapper.execute_wrappers.append(function)
    try:
        yield len(wrapper.execute_wrappers)
    finally:
        wrapper.execute_wrappers[:] = before


def drop_execute_wrappers(wrapper: Any, first: int) -> None:
    """Remove what is around queries from the *first* on: ``execute_wrappers``."""
    del wrapper.execute_wrappers[first:]


def keep_execute_wrappers(wrapper: Any, keeps: Callable[[Any], bool]) -> None:
    """Remove what is around queries unless *keeps* says otherwise: ``execute_wrappers``."""
    wrapper.execute_wrappers = [one for one in wrapper.execute_wrappers if keeps(one)]


# --- Transactions


class AtomicState(NamedTuple):
    """What Django knows of the atomic blocks that a connection is in."""

    savepoints: int
    """Length of ``savepoint_ids``: one for each block inside another."""
    blocks: int
    """Length of ``atomic_blocks``: the blocks that were entered and not left."""
    is_closed: bool
    """``closed_in_transaction``: the connection was closed inside a block."""
    needs_rollback: bool
    """``needs_rollback``: the innermost block will roll back."""


def atomic_state(wrapper: Any) -> AtomicState:
    """Return the state of *wrapper*'s atomic blocks."""
    return AtomicState(
        len(wrapper.savepoint_ids),
        len(wrapper.atomic_blocks),
        wrapper.closed_in_transaction,
        wrapper.needs_rollback,
    )


def count_blocks(wrapper: Any) -> int:
    """Return how many atomic blocks were entered and not left: ``atomic_blocks``."""
    return len(wrapper.atomic_blocks)


def leave_blocks(wrapper: Any, state: AtomicState) -> None:
    """Forget the blocks that were entered since *state*: ``savepoint_ids``, ``atomic_blocks``."""
    del wrapper.savepoint_ids[state.savepoints :]
    del wrapper.atomic_blocks[state.blocks :]


def unmark_rollback(wrapper: Any) -> None:
    """Let the innermost block commit, in or out of a block: ``needs_rollback``."""
    wrapper.needs_rollback = False


def leave_transaction(wrapper: Any) -> None:
    """Have Django believe that no block is open: ``in_atomic_block``, ``needs_rollback``.

    A connection that is closed inside a block stays unusable until the block ends.
    """
    wrapper.in_atomic_block = wrapper.needs_rollback = False


def atomic(using: str, *, admits_durable: bool) -> transaction.Atomic:
    """Return an atomic block, which may have durable blocks inside: ``Atomic._from_testcase``.

    That is how ``TestCase`` puts a transaction around durable blocks.
    """
    block = transaction.atomic(using=using)
    block._from_testcase = admits_durable  # type: ignore[attr-defined]
    return block


def is_durability_error(error: RuntimeError) -> bool:
    """Whether ``Atomic.__enter__()`` itself raised it: a durable block is inside another."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is transaction.Atomic.__enter__.__code__


def count_callbacks(wrapper: Any) -> int:
    """Return how many callbacks wait for the commit: ``run_on_commit``."""
    return len(wrapper.run_on_commit)


def drop_callbacks(wrapper: Any, first: int) -> None:
    """Forget the callbacks from the *first* on: ``run_on_commit``."""
    del wrapper.run_on_commit[first:]


def replace_callbacks(
    wrapper: Any, first: int, replace: Callable[[Callback], Callback]
) -> list[Callback]:
    """Replace the callbacks from the *first* on; return the new ones.

    ``run_on_commit`` has tuples of the savepoints around a callback, the callback, and ``robust``.
    """
    waiting = wrapper.run_on_commit
    if len(waiting) == first:
        return []
    waiting[first:] = [(within, replace(call), robust) for within, call, robust in waiting[first:]]
    return [call for _, call, _ in waiting[first:]]


# --- Models


def set_database(instance: Model, using: str) -> None:
    """Let an instance that was not read from a database belong to one: ``_state.db``."""
    instance._state.db = using


def compile_where(found: QuerySet[Any], using: str) -> tuple[str, tuple[Any, ...]]:
    """Return the WHERE clause of a query set and its parameters: ``SQLCompiler.compile()``.

    Raises ``EmptyResultSet`` or ``FullResultSet`` for a condition that is always false or true.
    """
    text, values = found.query.get_compiler(using).compile(found.query.where)
    return text, tuple(values)


def as_read(moment: datetime.datetime, wrapper: BaseDatabaseWrapper) -> datetime.datetime:
    """Return an aware *moment* as a query would: ``timezone``, ``timezone_name`` of the wrapper."""
    if wrapper.timezone is not None:
        return moment.astimezone(wrapper.timezone)
    here = zoneinfo.ZoneInfo(wrapper.timezone_name)  # USE_TZ = False
    return moment.astimezone(here).replace(tzinfo=None)
