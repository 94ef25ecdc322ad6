"""What roles lack of what installed channels need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.applying import execute
from pgpubsub_sql.migrations_ops.audit import Audit
from pgpubsub_sql.migrations_ops.tables import find_site
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.installing import Site
from pgpubsub_sql.sql.privileges import Missing, missing_privileges, statements
from pgpubsub_sql.sql.trigger import Trigger


def lacking(connection: BaseDatabaseWrapper, found: Audit) -> list[Missing]:
    """Return what is missing for the channels that *found* expects, where they are installed."""
    with connection.cursor() as cursor:
        cursor.execute(query("our_schema"))
        (helpers,) = cursor.fetchone()
    return missing_privileges(connection, _sites(connection, found, helpers), helpers=helpers)


def give(connection: BaseDatabaseWrapper, missing: Iterable[Missing]) -> list[str]:
    """Give what this session's role may give, all of it or nothing; return how that was done."""
    given = statements(one for one in missing if one.is_ours_to_give)
    with connection.schema_editor(atomic=True) as editor:
        execute(editor, given)
    return given


def _sites(
    connection: BaseDatabaseWrapper, found: Audit, helpers: str
) -> Iterator[tuple[Trigger, Site]]:
    for trigger in found.expected.values():
        if function := found.functions.get(trigger.function):
            table = found.state.apps.get_model(trigger.model)._meta.db_table
            names = {"schema": function.schema, "helpers": helpers, "owner": ""}
            with contextlib.suppress(NotReady):  # no table
                yield trigger, find_site(connection, trigger, table, **names)
