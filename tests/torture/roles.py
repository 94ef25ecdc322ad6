"""Settings of the workers' role, as a database administrator changes them."""

from __future__ import annotations

from contextlib import closing

from django.db import Error, connection

from tests.ledger import sql
from tests.torture.stage import WORKER

SETTINGS = (
    ("statement_timeout", "'300ms'"),
    ("lock_timeout", "'50ms'"),
    ("idle_in_transaction_session_timeout", "'100ms'"),
    ("idle_session_timeout", "'300ms'"),
    ("default_transaction_isolation", "'repeatable read'"),
    ("default_transaction_read_only", "on"),
)


def set_role(name: str, value: str) -> None:
    """Change a setting for sessions to come, and have some begin now."""
    sql(f"ALTER ROLE {WORKER} SET {name} = {value}")
    renew_some()


def reset_role(name: str) -> None:
    """Take it back, likewise; in a thread of its own, and whatever the server is doing."""
    with closing(connection):
        while True:
            try:
                sql(f"ALTER ROLE {WORKER} RESET {name}")
                renew_some()
            except Error:
                connection.close()
            else:
                return


def renew_some() -> None:
    """End about half of the workers' sessions."""
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
        " AND random() < 0.5",
        WORKER,
    )
