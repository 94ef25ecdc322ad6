"""What is done after each test that commits: empty the tables that it has written to.

Django would truncate every table and create all content types and permissions anew, which takes
longer than most tests.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.commands import flush
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_migrate

KEPT = {"auth_permission", "django_content_type"}
"""Written by handlers of ``post_migrate`` alone."""

WRITTEN = """\
SELECT name FROM unnest(%s::text[]) AS name, to_regclass(quote_ident(name)) AS class
WHERE pg_relation_size(class) > 0 OR (SELECT relkind = 'p' FROM pg_class WHERE oid = class)
UNION ALL
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = to_regclass('pgpubsub_sql_handled') AND pg_relation_size(inhrelid) > 0
UNION ALL
SELECT 'pgpubsub_sql_counter' WHERE pg_relation_size(to_regclass('pgpubsub_sql_counter')) > 0
"""
"""Tables that have a page, and all that are partitioned, which never have one; and the history and
counters, which Django would leave alone."""


def flush_little() -> None:
    """Have Django's ``flush`` do no more than is needed."""
    flush.sql_flush = truncate_written
    flush.emit_post_migrate_signal = tell_our_handlers


def truncate_written(
    style: Any, connection: BaseDatabaseWrapper, *, reset_sequences: bool, allow_cascade: bool
) -> list[str]:
    """Return SQL that empties the tables that have been written to, and those that refer to them.

    It stands in for ``django.core.management.sql.sql_flush``.
    """
    tables = set(connection.introspection.django_table_names()) - KEPT
    with connection.cursor() as cursor:
        cursor.execute(WRITTEN, [sorted(tables)])
        written = [name for (name,) in cursor]
    return connection.ops.sql_flush(
        style, written, reset_sequences=reset_sequences, allow_cascade=True
    )


def tell_our_handlers(verbosity: int, interactive: bool, db: str) -> None:
    """Send ``post_migrate`` for our app alone: a test may have changed what its handlers write.

    It stands in for ``django.core.management.sql.emit_post_migrate_signal``.
    """
    app = apps.get_app_config("pgpubsub_sql")
    post_migrate.send(app, app_config=app, verbosity=verbosity, interactive=interactive, using=db)
