"""Outages: waiting for a database, and what the log says of one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from django.db import connections
from django.db.utils import DatabaseError, InterfaceError, OperationalError

from pgpubsub_sql.errors import NotReady, NotReadyYet, RelayError
from pgpubsub_sql.retry import Backoff
from pgpubsub_sql.sql import (
    READ_ONLY_TRANSACTION,
    UNDEFINED_COLUMN,
    UNDEFINED_FUNCTION,
    UNDEFINED_TABLE,
    sqlstate,
)
from pgpubsub_sql.sql.readiness import check_ready, check_workable, unreachable
from pgpubsub_sql.sql.sqlstates import is_lost
from pgpubsub_sql.worker.connections import open_for_worker
from pgpubsub_sql.worker.health import Answers, Endpoint, alive, not_ready, wait
from pgpubsub_sql.worker.shutdown import Shutdown

logger = logging.getLogger("pgpubsub_sql.worker")


Prepared = TypeVar("Prepared")


def await_database(
    using: str, prepare: Callable[[], Prepared], endpoint: Endpoint | None
) -> Prepared | None:
    """Wait until a worker can work on the database *using*; return what *prepare* makes of it then.

    It answers health checks meanwhile. Return None if it is asked to stop before. Raises
    :class:`NotReady` for what no waiting helps against.
    """
    awaited = partial(not_ready, "The database is awaited.")
    answers: Answers = {"/livez": alive, "/readyz": awaited, "/metrics": awaited}
    backoff = Backoff()
    with Shutdown() as shutdown:
        while not shutdown.is_requested():
            open_for_worker(using)
            reason: NotReady
            try:
                check_workable(connections[using])
                prepared = prepare()
                return None if shutdown.is_requested() else prepared
            except NotReadyYet as error:
                reason = error
            except (DatabaseError, InterfaceError) as error:
                if not (isinstance(error, OperationalError) or is_lost(error)):
                    raise
                reason = unreachable(using, error)
            connections[using].close()
            delay = backoff.fail()
            message = "Cannot listen: %s; trying again in %.1f seconds"
            logger.warning(message, first_line(reason), delay)
            wait(shutdown, delay, answers, endpoint)
    return None


def first_line(error: Exception) -> str:
    """Return the first line of *error*, without the full stop."""
    line = str(error).strip().partition("\n")[0]
    return line.removesuffix(".") or type(error).__name__


def cause(using: str, error: Exception) -> Exception:
    """Return why a statement of ours has failed with *error* on the database *using*.

    If it misses one of our tables, as after ``migrate pgpubsub_sql zero``, that is a
    :class:`NotReady`, which says what to do. If that cannot be found out, it is *error* itself.
    """
    if sqlstate(error) in (UNDEFINED_TABLE, UNDEFINED_COLUMN, UNDEFINED_FUNCTION):
        try:
            check_ready(connections[using])
        except NotReady as reason:
            return reason
        except (DatabaseError, InterfaceError):
            return error
    return error


def needs_traceback(error: Exception) -> bool:
    """Return whether *error* is more than a lost, read-only or empty server, or a lost broker."""
    return not (
        isinstance(error, OperationalError | RelayError | NotReady)
        or is_lost(error)
        or sqlstate(error) == READ_ONLY_TRANSACTION
    )
