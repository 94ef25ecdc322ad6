"""SQLSTATE codes, PostgreSQL's reasons for an error."""

from __future__ import annotations

from django.db.utils import DatabaseError, InterfaceError, OperationalError

OUT_OF_MEMORY = "53200"
READ_ONLY_TRANSACTION = "25006"
UNDEFINED_FUNCTION = "42883"
UNDEFINED_TABLE = "42P01"
UNDEFINED_COLUMN = "42703"
INVALID_PARAMETER_VALUE = "22023"
LOCK_NOT_AVAILABLE = "55P03"


def sqlstate(error: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, or of its cause if it is Django's; empty if none."""
    while error is not None:
        if code := getattr(error, "sqlstate", None) or getattr(error, "pgcode", None):
            return str(code)
        error = error.__cause__
    return ""


def is_lost(error: BaseException) -> bool:
    """Return whether Django's *error* is a lost connection, and not a refused statement."""
    if code := sqlstate(error):
        return code.startswith(("08", "57P"))  # 57P01 to 57P05 end the session
    # The server did not answer. psycopg2 raises a bare DatabaseError if it goes away meanwhile.
    return isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError
