"""psycopg's own pool, which Django uses if asked."""

from .base import *

DATABASES["default"]["OPTIONS"] = {"pool": True}


def is_in_use(connection):
    return connection.pool is not None and type(connection.connection).__module__ != "psycopg.pool"
