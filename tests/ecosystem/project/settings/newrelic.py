"""newrelic: the process is started by newrelic-admin, which wraps connections when drivers load."""

from .base import *


def is_in_use(connection):
    return type(connection.connection).__module__.startswith("newrelic")
