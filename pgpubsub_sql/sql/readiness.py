"""Whether a database is one that channels can work in."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql.templates import query


def check_ready(connection: BaseDatabaseWrapper) -> str:
    """Return the schema that *connection* works in.

    Raises :class:`NotReady` if it is not PostgreSQL, or our own migrations have not run there.
    """
    alias = connection.alias
    if connection.vendor != "postgresql":
        raise NotReady(
            f"The database {alias!r} is {connection.display_name}; LISTEN and NOTIFY are "
            "PostgreSQL's. Choose another with --database."
        )
    with connection.cursor() as cursor:
        cursor.execute(query("ready_to_listen"))
        schema, migrated = cursor.fetchone()
    if not migrated:
        raise NotReady(
            f"The tables of pgpubsub_sql are missing in the database {alias!r}. "
            f"Run: python manage.py migrate --database {alias}"
        )
    return str(schema)
