"""django-db-geventpool's engine, whose connection parameters have keys of its own."""

import os

from django.db.backends.postgresql.psycopg_any import is_psycopg3
from gevent.monkey import is_module_patched

from .base import *

DATABASES["default"] |= {
    "ENGINE": f"django_db_geventpool.backends.postgresql_psycopg{3 if is_psycopg3 else 2}",
    "CONN_MAX_AGE": 0,
    "OPTIONS": {"MAX_CONNS": 4, "REUSE_CONNS": 2},
}


def is_in_use(connection):
    """Whether the pool is, and all that was patched."""
    is_patched = is_module_patched("socket") or "PATCHED_BY_GEVENT" not in os.environ
    return is_patched and connection.pool.size > 0
