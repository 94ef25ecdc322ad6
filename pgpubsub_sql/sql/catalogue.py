"""What PostgreSQL's catalogue says is installed of channels, whoever installed it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql.quoting import quote_identifier
from pgpubsub_sql.sql.templates import SQL, query

TAG = "pgpubsub_sql "
"""How the comment of every object that a migration of ours creates begins; JSON follows."""

_SILENT = ("D", "R")
"""What ``pg_trigger.tgenabled`` has for a trigger that does not fire for ordinary writers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstalledTrigger:
    """One trigger that calls the function of a channel."""

    name: str
    schema: str
    """Schema of its table."""
    table: str
    """Name of its table."""
    table_oid: int
    enabled: bool
    """Whether it fires for ordinary writers."""
    fingerprint: str | None
    """Digest of the specification it was installed by; None where its comment is not ours."""

    @property
    def quoted_table(self) -> SQL:
        """Its table, with schema."""
        return SQL(f"{quote_identifier(self.schema)}.{quote_identifier(self.table)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstalledFunction:
    """The function of a channel, and the triggers that call it."""

    name: str
    schema: str
    channel: str | None
    """Name of the channel it belongs to; None where its comment is not ours."""
    owner: str | None
    """Who installed it, as ``PGPUBSUB_OWNER`` had it."""
    fingerprint: str | None
    """Digest of the specification it was installed by."""
    triggers: tuple[InstalledTrigger, ...]


def tag(*, channel: str, fingerprint: str, owner: str) -> str:
    """Return the comment by which an object is known as ours."""
    found = {"channel": channel, "fingerprint": fingerprint, "owner": owner}
    return TAG + json.dumps(found, sort_keys=True, ensure_ascii=False)


def installed_functions(connection: BaseDatabaseWrapper) -> dict[str, InstalledFunction]:
    """Return the functions of channels that the search_path of *connection* leads to, by name."""
    with connection.cursor() as cursor:
        cursor.execute(query("installed"))
        rows = cursor.fetchall()
    found: dict[str, InstalledFunction] = {}
    for name, schema, comment, *trigger in rows:
        function = found.get(name) or _function(name, schema, comment)
        triggers = (*function.triggers, _trigger(*trigger)) if trigger[0] else ()
        found[name] = dataclasses.replace(function, triggers=triggers)
    return found


def _function(name: str, schema: str, comment: str | None) -> InstalledFunction:
    said = _read_tag(comment)
    return InstalledFunction(
        name=name,
        schema=schema,
        channel=said.get("channel"),
        owner=said.get("owner"),
        fingerprint=said.get("fingerprint"),
        triggers=(),
    )


def _trigger(
    name: str, oid: int, schema: str, table: str, enabled: str, comment: str | None
) -> InstalledTrigger:
    return InstalledTrigger(
        name=name,
        schema=schema,
        table=table,
        table_oid=oid,
        enabled=enabled not in _SILENT,
        fingerprint=_read_tag(comment).get("fingerprint"),
    )


def _read_tag(comment: str | None) -> dict[str, Any]:
    """Return what a comment of ours says; of somebody else's, nothing."""
    if comment is None or not comment.startswith(TAG):
        return {}
    try:
        said = json.loads(comment.removeprefix(TAG))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
