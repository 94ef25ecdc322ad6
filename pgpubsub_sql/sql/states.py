"""Why PostgreSQL refused, by its own code."""

from __future__ import annotations

READ_ONLY_TRANSACTION = "25006"
UNDEFINED_FUNCTION = "42883"
INVALID_PARAMETER_VALUE = "22023"


def sqlstate(error: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, or of the one behind Django's; empty for none."""
    while error is not None:
        if code := getattr(error, "sqlstate", None) or getattr(error, "pgcode", None):
            return str(code)
        error = error.__cause__
    return ""
