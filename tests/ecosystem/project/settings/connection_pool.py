"""django-db-connection-pool: SQLAlchemy's pool, which lends wrapped connections."""

from .base import *

DATABASES["default"]["ENGINE"] = "dj_db_conn_pool.backends.postgresql"
DATABASES["default"]["POOL_OPTIONS"] = {"POOL_SIZE": 2, "MAX_OVERFLOW": 2}


def is_in_use(connection):
    return type(connection.connection).__module__.startswith("sqlalchemy")
