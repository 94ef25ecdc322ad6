"""ddtrace: the process is started by ddtrace-run, which wraps connections when drivers load."""

from .base import *


def is_in_use(connection):
    return type(connection.connection).__module__.startswith("ddtrace")
