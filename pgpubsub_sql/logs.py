"""How the worker logs: the handler it brings where the project has none, and JSON."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
"""What every record has; the rest of its attributes is what ``extra=`` gave it."""


PACKAGE = "pgpubsub_sql"


def configure(*, level: str | None, format_: str, as_json: bool) -> None:
    """Log to standard error, unless the project's LOGGING has a handler for what we log.

    Loggers that LOGGING has disabled log again: ``disable_existing_loggers`` is true unless the
    project says otherwise, and hits all that was imported before, by a formatter of ours for one.
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
    """Whether a handler writes what *logger* logs at *level*."""
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

    Its characters are ASCII, so that it survives whatever reads it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of *record*."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        values = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "worker": record.processName,
            "process": record.process,
            "message": record.getMessage(),
        }
        known = _OWN | values.keys()
        values |= {key: value for key, value in vars(record).items() if key not in known}
        if exception := self._exception(record):
            values["exception"] = exception
        pairs = (f"{json.dumps(str(key))}: {_dump(value)}" for key, value in values.items())
        return f"{{{', '.join(pairs)}}}"

    def _exception(self, record: logging.LogRecord) -> str:
        """Return the traceback and the stack, as far as there are any."""
        text = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        return "\n".join(filter(None, [text, stack]))


def _dump(value: Any) -> str:
    """Return *value* as JSON, or its words where it has no such form: NaN, for example."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(str(value))
