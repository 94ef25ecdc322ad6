"""psycopg's own pool, which Django uses if asked."""

import sys

from .base import *

DATABASES["default"]["OPTIONS"] = {"pool": True}


def is_in_use(connection):
    """Whether the pool is there for requests; workers have connections of their own."""
    return "psycopg_pool" in sys.modules and not hasattr(connection.connection, "_pool")
