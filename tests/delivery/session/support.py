"""Settings of a session, and what messages find of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.app import listeners
from tests.ledger import sql

SETTINGS = {
    "search_path": "SET search_path = tenant",
    "role": "SET ROLE weak",
    "session_authorization": "SET SESSION AUTHORIZATION weak",
    "default_transaction_read_only": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "default_transaction_isolation": "SET default_transaction_isolation = 'serializable'",
    "statement_timeout": "SELECT set_config('statement_timeout', '7min', false)",
    "lock_timeout": "SET LOCAL lock_timeout = '7min'",
    "idle_in_transaction_session_timeout": "SET idle_in_transaction_session_timeout = '7min'",
    "row_security": "SET row_security = off",
    "TimeZone": "SET TIME ZONE 'Asia/Tokyo'",
    "DateStyle": "SET datestyle = 'German, DMY'",
    "IntervalStyle": "SET intervalstyle = 'iso_8601'",
    "client_encoding": "SET client_encoding = 'LATIN1'",
    "session_replication_role": "SET session_replication_role = replica",
    "pgpubsub.ignore": "SET pgpubsub.ignore = 'true'",
    "pgpubsub.notification_context": """SET pgpubsub.notification_context = '{"user": 7}'""",
}
"""What a listener may change, and how."""

TENANT = """
    DROP SCHEMA IF EXISTS tenant CASCADE;
    CREATE SCHEMA tenant;
    CREATE TABLE tenant.pgpubsub_sql_notification (
        LIKE public.pgpubsub_sql_notification INCLUDING ALL
    );
    CREATE TABLE tenant.app_entry (LIKE public.app_entry INCLUDING ALL);
    DROP ROLE IF EXISTS weak;
    CREATE ROLE weak;
"""


def settings() -> dict[str, str]:
    """The session's settings as they are now."""
    return {name: sql("SELECT current_setting(%s, true)", name)[0][0] or "" for name in SETTINGS}


class Seen(list[dict[str, str]]):
    """The settings as messages find them."""

    def __call__(self) -> None:
        self.append(settings())


def mood(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Have messages in the mood "leave" do this."""
    monkeypatch.setitem(listeners.MOODS, "leave", lambda: [step() for step in steps])
