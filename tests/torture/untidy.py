"""Listeners that leave their session or their process changed, and the next one, which looks."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import connection, connections, transaction
from django.urls import get_urlconf, set_urlconf
from django.utils import timezone, translation
from django.utils.module_loading import import_string

from tests.app import listeners
from tests.app.listeners import execute
from tests.ledger import sql
from tests.torture.stage import DECOY, STRANGER

VARIABLE = contextvars.ContextVar[str]("VARIABLE", default="clean")

MARK = "7531ms"
"""A timeout that nobody else sets, and that is none."""
TIGHT = "53ms"
"""One that would end what comes after it."""
ZONE = "Asia/Kolkata"

SESSION = {
    "search_path": f"SET search_path = {DECOY}, public",
    "empty search_path": "SET search_path = ''",
    "role": f"SET ROLE {STRANGER}",
    "read only": "SET default_transaction_read_only = on",
    "serializable": "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "statement_timeout": f"SET statement_timeout = '{MARK}'",
    "tight statement_timeout": f"SET statement_timeout = '{TIGHT}'",
    "lock_timeout": f"SET lock_timeout = '{TIGHT}'",
    "idle_in_transaction": f"SET idle_in_transaction_session_timeout = '{TIGHT}'",
    "idle_session": f"SET idle_session_timeout = '{TIGHT}'",
    "time zone": f"SET TIME ZONE '{ZONE}'",
    "datestyle": "SET datestyle = 'German, DMY'",
    "LISTEN": 'LISTEN "torture.LiveRows"',
    "RESET ALL": "RESET ALL",
}
"""What a listener may say in its transaction, or in a callback after it."""

CALLBACKS: dict[str, Callable[[], object]] = {
    "manual commit": lambda: connection.set_autocommit(False),
    "raw manual commit": lambda: begin_by_itself(),
    "callback closes": connection.close,
    "callback begins": partial(execute, "BEGIN"),
    "DISCARD ALL": partial(execute, "DISCARD ALL"),
    "callback closes all": connections.close_all,
}
"""What is possible outside a transaction alone."""

PROCESS: dict[str, Callable[[], object]] = {
    "language": lambda: translation.activate("de"),
    "current zone": lambda: timezone.activate(ZONE),
    "variable": lambda: VARIABLE.set("dirty"),
    "urlconf": lambda: set_urlconf("tests.urls"),
}
"""What Python code and Django remember."""


CHILDREN: dict[str, Callable[[], object]] = {
    "signals": listeners.take_the_signals,
    "fork": listeners.parent_of_one_that_writes,
}
"""What is the process's: handlers of signals, and processes that inherit them."""

OBJECTS: dict[str, Callable[[], object]] = {
    "row factory": lambda: set_factory(connection.connection),
    "execute wrapper": lambda: connection.execute_wrappers.append(spoil),
    "read only at once": partial(execute, "SET TRANSACTION READ ONLY"),
    "LOCAL timeout": partial(execute, f"SET LOCAL statement_timeout = '{TIGHT}'"),
    "LOCAL search_path": partial(execute, f"SET LOCAL search_path = {DECOY}, public"),
}
"""What objects of Django's and the driver's remember, and what lasts until COMMIT."""


def begin_by_itself() -> None:
    """Have the driver begin transactions, past Django."""
    connection.ensure_connection()
    connection.connection.autocommit = False


def set_factory(raw: Any) -> None:
    """Have each row be a dict."""
    if hasattr(raw, "row_factory"):
        raw.row_factory = import_string("psycopg.rows.dict_row")
    else:
        raw.cursor_factory = import_string("psycopg2.extras.RealDictCursor")


def spoil(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    """Refuse to execute what is not the listener's."""
    if "torture_" in sql or "SAVEPOINT" in sql:
        return execute(sql, params, many, context)
    raise RuntimeError(f"a wrapper left behind met {sql}")


ANYWHERE = PROCESS | {name: partial(execute, text) for name, text in SESSION.items()}
IN_LISTENERS = ANYWHERE | OBJECTS | CHILDREN
IN_CALLBACKS = ANYWHERE | CALLBACKS

UNTIDY: dict[str, Callable[[], object]] = IN_LISTENERS | {
    f"{name} in a callback": partial(transaction.on_commit, change)
    for name, change in IN_CALLBACKS.items()
}
"""By its mood: what a listener leaves behind. None of them is a failure."""


def dirt() -> list[str]:
    """Return what another message has left behind."""
    found = {
        "language": translation.get_language() == "de",
        "current zone": timezone.get_current_timezone_name() == ZONE,
        "variable": VARIABLE.get() != "clean",
        "urlconf": get_urlconf() == "tests.urls",
    }
    ((path, user, isolation, statement, lock, zone, dates),) = sql("""
        SELECT current_setting('search_path'), current_user::text,
            current_setting('default_transaction_isolation'), current_setting('statement_timeout'),
            current_setting('lock_timeout'), current_setting('TimeZone'),
            current_setting('DateStyle')""")
    found |= {
        "search_path": path in ('""', "") or DECOY in path,
        "role": user == STRANGER,
        "serializable": isolation == "serializable",
        "statement_timeout": statement in (MARK, TIGHT),
        "lock_timeout": lock == TIGHT,
        "time zone": zone == ZONE,
        "datestyle": dates.startswith("German"),
    }
    return [name for name, is_there in found.items() if is_there]
