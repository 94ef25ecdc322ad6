"""SQLSTATE codes, PostgreSQL's reasons for an error."""

from __future__ import annotations

OUT_OF_MEMORY = "53200"
READ_ONLY_TRANSACTION = "25006"
UNDEFINED_FUNCTION = "42883"
INVALID_PARAMETER_VALUE = "22023"


def sqlstate(error: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, or of its cause if it is Django's; empty if none."""
    while error is not None:
        if code := getattr(error, "sqlstate", None) or getattr(error, "pgcode", None):
            return str(code)
        error = error.__cause__
    return ""


def is_lost(error: BaseException) -> bool:
    """Return whether *error* is the end of a connection, and not the refusal of a statement."""
    # Without an answer of the server there is no SQLSTATE. 57P01 to 57P05 end the session.
    code = sqlstate(error)
    return not code or code.startswith(("08", "57P"))
