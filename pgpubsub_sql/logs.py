"""Logging of workers: a handler for projects that have none, and JSON."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
"""Attributes that each record has; all others come from ``extra=``."""


PACKAGE = "pgpubsub_sql"


def configure(*, level: str | None, format_: str, as_json: bool) -> None:
    """Log to standard error, unless the project's LOGGING has a handler for this package.

    This enables loggers of this package that LOGGING has disabled: by default,
    ``disable_existing_loggers`` disables all that exist already, for example because LOGGING names
    a formatter of this package.
    """
    logger = logging.getLogger(PACKAGE)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(JSONFormatter() if as_json else logging.Formatter(format_))
        logging.basicConfig(handlers=[handler], level=(level or "info").upper())
    if level:
        logger.setLevel(level.upper())
    for name, one in list(logging.root.manager.loggerDict.items()):
        if isinstance(one, logging.Logger) and f"{name}.".startswith(f"{PACKAGE}."):
            one.disabled = False


def is_written(logger: logging.Logger, level: int) -> bool:
    """Return whether a handler writes what *logger* logs at *level*."""
    if not logger.isEnabledFor(level):
        return False
    one: logging.Logger | None = logger
    while one is not None:
        if any(handler.level <= level for handler in one.handlers):
            return True
        one = one.parent if one.propagate else None
    return False


class JSONFormatter(logging.Formatter):
    """One JSON object a line: what ``manage.py listen --json-logs`` writes.

    ::

        LOGGING = {
            "version": 1,
            "formatters": {"json": {"()": "pgpubsub_sql.logs.JSONFormatter"}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"handlers": ["stderr"], "level": "INFO"},
        }

    The output is ASCII, which any reader understands.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        values = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "worker": record.processName,
            "process": record.process,
            "message": record.getMessage(),
        }
        known = _STANDARD | values.keys()
        values |= {key: value for key, value in vars(record).items() if key not in known}
        if exception := self._exception(record):
            values["exception"] = exception
        pairs = (f"{json.dumps(str(key))}: {_dump(value)}" for key, value in values.items())
        return f"{{{', '.join(pairs)}}}"

    def _exception(self, record: logging.LogRecord) -> str:
        """Return the traceback and the stack, if there are any."""
        text = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        return "\n".join(filter(None, [text, stack]))


def _dump(value: Any) -> str:
    """Return *value* as JSON, or ``str(value)`` as JSON if it has no JSON form, such as NaN."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(str(value))
