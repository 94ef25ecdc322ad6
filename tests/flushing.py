"""What is done after each test that commits: empty the tables that it has written to.

Django would truncate every table and create all content types and permissions anew, which takes
longer than most tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import eq
from typing import Any

from django.apps import apps
from django.core.management.commands import flush
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_migrate

KEPT = {"auth_permission", "django_content_type"}
"""Written by handlers of ``post_migrate`` alone."""

WRITTEN = """\
SELECT oid::regclass::text FROM pg_class
WHERE relname = ANY (%s) AND pg_table_is_visible(oid)
    AND (relkind = 'p' OR pg_relation_size(oid) > 0)
UNION ALL
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = to_regclass('pgpubsub_sql_history') AND pg_relation_size(inhrelid) > 0
UNION ALL
SELECT 'pgpubsub_sql_counter' WHERE pg_relation_size(to_regclass('pgpubsub_sql_counter')) > 0
"""
"""Tables that have a page, and all that are partitioned, which never have one; and the history and
counters, which Django would leave alone."""

OURS = """\
SELECT concat(
    (
        SELECT array_agg((oid, xmin) ORDER BY oid) FROM pg_proc
        WHERE starts_with(proname, 'pgpubsub')
    ),
    (SELECT array_agg((oid, xmin) ORDER BY oid) FROM pg_trigger WHERE NOT tgisinternal),
    (
        SELECT array_agg(
            (oid, relname, relnamespace, relpersistence, relacl, relispartition) ORDER BY oid
        )
        FROM pg_class WHERE starts_with(relname, 'pgpubsub')
    ),
    (
        SELECT array_agg((attrelid, attnum, pg_attribute.xmin) ORDER BY attrelid, attnum)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE starts_with(relname, 'pgpubsub') AND relkind IN ('r', 'p') AND NOT relispartition
    )
)
"""
"""What DDL has made of our objects. TRUNCATE changes nothing of it."""

REGISTERED = "SELECT concat((SELECT array_agg((ctid, xmin)) FROM pgpubsub_sql_subscription))"
PERMITTED = """\
SELECT concat(
    (SELECT count(*) FROM auth_permission), ' ', (SELECT count(*) FROM django_content_type)
)
"""

_seen: dict[str, list[str]] = {}
"""What each database had when our handlers were told last."""


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
    """Send ``post_migrate`` for our app alone, if a test has changed what its handlers write.

    It stands in for ``django.core.management.sql.emit_post_migrate_signal``.
    """
    if db in _seen and all(map(eq, _seen[db], _state(db))):
        return
    app = apps.get_app_config("pgpubsub_sql")
    post_migrate.send(app, app_config=app, verbosity=verbosity, interactive=interactive, using=db)
    _seen[db] = list(_state(db))


def _state(db: str) -> Iterator[str]:
    """Yield what the handlers write; first whether the tables are there for the rest."""
    queries = [OURS, REGISTERED]
    if apps.is_installed("django.contrib.auth"):
        queries.append(PERMITTED)
    for query in queries:
        with connections[db].cursor() as cursor:
            cursor.execute(query)
            yield str(cursor.fetchone()[0])
