"""Log records as JSON, for programs that collect them."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
"""What every record has; the rest of its attributes is what ``extra=`` gave it."""


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
