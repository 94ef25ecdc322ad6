"""Assertions after every migration that the harness runs, whatever the test is about.

Every write to a watched table succeeds. Each trigger on it sends one message or, if its options say
so, none. What is installed is what the migrations that have run say.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.graph import MigrationGraph

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.migrations_ops.problems import InstallState
from pgpubsub_sql.sql import quote_identifier
from tests.migrations.harness import Database

TRIGGERS = """
SELECT tgrelid::regclass::text, prosrc,
    CASE tgtype & 2 WHEN 0 THEN 'AFTER' ELSE 'BEFORE' END,
    CASE tgtype & 60 WHEN 4 THEN 'INSERT' WHEN 8 THEN 'DELETE' WHEN 16 THEN 'UPDATE' END,
    tgenabled IN ('O', 'A'), strpos(prosrc, 'INSERT INTO') > 0, strpos(prosrc, 'stale') > 0
FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgparentid = 0 AND tgtype & 32 = 0 AND starts_with(proname, 'pgpubsub_channel_')
"""
COLUMNS = """
SELECT attname::text, format('%%L::%%s', CASE typcategory WHEN 'S' THEN 'Ann' WHEN 'B' THEN 'true'
    WHEN 'D' THEN '2026-01-31' ELSE '1' END, format_type(atttypid, NULL))
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = ''
    AND (attname = 'name' OR attnotnull AND NOT atthasdef)
"""
STORED = """
SELECT quote_ident(relnamespace::regnamespace::text) || '.pgpubsub_sql_notification' FROM pg_class
WHERE relname = 'pgpubsub_sql_notification'
"""


class Watch(NamedTuple):
    """One trigger of a channel, as the catalogue has it."""

    table: str
    source: str
    when: str
    op: str
    enabled: bool
    durable: bool
    chooses: bool
    """Whether its options may make it send nothing."""

    @property
    def tells(self) -> tuple[str, str, str]:
        """What it sends for each write: channel, timing and operation."""
        channel: str = json.loads(self.source.splitlines()[1].removeprefix("-- pgpubsub_sql "))[
            "channel"
        ]
        return channel, self.when, self.op


def watch_every_migration() -> None:
    """Let ``migrate`` assert after each migration what must always hold."""
    for name in ("apply_migration", "unapply_migration"):
        setattr(MigrationExecutor, name, _watched(getattr(MigrationExecutor, name)))


def _watched(run: Callable[..., Any]) -> Callable[..., Any]:
    def watched(self: Any, *args: Any, fake: bool = False, **kwargs: Any) -> Any:
        state = run(self, *args, fake=fake, **kwargs)
        if fake:
            _faked.add(self.connection.alias)
        if self.connection.vendor == "postgresql":
            faked = self.connection.alias in _faked
            if has_triggers(self.connection):
                assert_writable(Database(self.connection.settings_dict["NAME"]), by_chance=faked)
            if not faked and not has_branches(self.loader.graph):
                assert_in_step(self.connection)
        return state

    return watched


def has_triggers(connection: Any) -> bool:
    """Whether a channel's trigger is installed, so that writes are worth trying."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS ({TRIGGERS})")
        return bool(cursor.fetchone()[0])


_faked: set[str] = set()
"""Databases in which a migration was recorded that has not run."""


def assert_writable(database: Database, *, by_chance: bool = False) -> None:
    """Insert, update and delete a row of each watched table, check the messages, and roll back.

    Every trigger must send, unless it is there *by chance*, after a migration that was faked.
    """
    with database.connect() as cursor:
        cursor.execute(TRIGGERS)
        watches = [Watch(*row) for row in cursor.fetchall()]
        cursor.execute(STORED)
        stores = [name for (name,) in cursor.fetchall()]
        for table in sorted({watch.table for watch in watches}):
            cursor.execute("BEGIN")
            _write(cursor, table)
            told = list(_told(cursor, stores))
            cursor.execute("ROLLBACK")
            here = [one for one in watches if one.table == table and one.enabled and one.durable]
            always = {one.tells for one in here if not one.chooses and not by_chance}
            assert len({*told}) == len(told), f"{table}: told twice: {told}"
            assert always <= {*told} <= {one.tells for one in here}, f"{table}: {told}"


def _write(cursor: Any, table: str) -> None:
    cursor.execute(COLUMNS, [table])
    values = {quote_identifier(name): value for name, value in cursor.fetchall()}
    names, row = ", ".join(values), "WHERE tableoid = %s AND ctid = %s"
    cursor.execute(
        f"INSERT INTO {table} ({names}) VALUES ({', '.join(values.values())}) RETURNING tableoid, ctid"
    )
    same = ", ".join(f"{name} = {name}" for name in values)
    cursor.execute(f"UPDATE {table} SET {same} {row} RETURNING tableoid, ctid", cursor.fetchone())
    cursor.execute(f"DELETE FROM {table} {row}", cursor.fetchone())
    assert cursor.rowcount == 1


def _told(cursor: Any, stores: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield what this transaction has sent: channel, timing and operation."""
    for store in stores:
        cursor.execute(
            f"SELECT channel, payload FROM {store} WHERE created_at >= now() ORDER BY id"
        )
        for channel, payload in cursor.fetchall():
            rows = [payload["old"] is not None, payload["new"] is not None]
            assert rows == [payload["op"] != "INSERT", payload["op"] != "DELETE"], payload
            yield channel, payload["when"], payload["op"]


def assert_in_step(connection: Any) -> None:
    """Assert that everything migrated is installed, and nothing is left over."""
    with contextlib.suppress(NotReady):
        found = audit(connection)
        states = {
            key: found.state_of(key)
            for key in found.applied
            if key in found.targets and found.targets[key].table_oid
        }
        assert {*states.values()} <= {
            InstallState.INSTALLED,
            InstallState.DISABLED,
            InstallState.STALE,
        }, states
        assert found.leftovers == []


def has_branches(graph: MigrationGraph) -> bool:
    """Whether an app has migrations that may run in either order."""
    return any(
        len([parent for parent in node.parents if parent.key[0] == node.key[0]]) > 1
        for node in graph.node_map.values()
    )
