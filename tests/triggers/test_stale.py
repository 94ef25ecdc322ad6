"""Columns that are renamed, dropped and retyped under an installed trigger.

No write fails, in old or new sessions; rows for which the options no longer fit are sent whole and
marked as stale; altering the trigger repairs it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import psycopg2
import pytest
from django.db import connection

from pgpubsub_sql.models import Notification
from pgpubsub_sql.sql.trigger import object_name
from tests.triggers.tables import ALL, sql, taken, watch

NUMBER = '("new"."number" > 0 OR "old"."number" > 0)'
OPTIONS: dict[str, dict[str, Any]] = {
    "columns": {"columns": ("id", "number")},
    "watch": {"watch": ("number",)},
    "condition": {"condition": NUMBER},
    "ordering_key": {"ordering_key": ("number",)},
    "all": {
        "columns": ("id", "number"),
        "watch": ("number",),
        "condition": NUMBER,
        "ordering_key": ("number",),
    },
}
CHANGES = {
    "renamed": "ALTER TABLE watched RENAME COLUMN number TO amount",
    "dropped": "ALTER TABLE watched DROP COLUMN number",
    "retyped": "ALTER TABLE watched ALTER COLUMN number TYPE text",
    "replaced": "ALTER TABLE watched DROP COLUMN number, ADD COLUMN number text",
}
REMEDIES = {
    "renamed": ("number", "amount"),
    "dropped": ("number", "other"),
    "retyped": ("> 0", "> '0'"),
    "replaced": ("> 0", "> '0'"),
}
"""The new options that fit the table again."""

WATCHED: dict[str, dict[str, Any]] = {
    "statement": {},
    "row": {"level": "row"},
    "before": {"after": (), "before": ALL},
    "statement, sent": {"durable": False},
    "row, sent": {"level": "row", "durable": False},
}
"""Channels on the same table, by name."""


class Session:
    """A session that writes and listens."""

    def __init__(self) -> None:
        self._connection = psycopg2.connect(dbname=connection.settings_dict["NAME"])
        self._connection.autocommit = True
        for channel in WATCHED:
            self.execute(f'LISTEN "{channel}"')

    def execute(self, *statements: str) -> None:
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def told(self, *statements: str) -> dict[str, list[dict[str, Any]]]:
        """Write, and return the messages of each channel."""
        self.execute(*statements)
        stored = [
            (one.channel, {**one.payload, "key": one.key}) for one in Notification.objects.all()
        ]
        Notification.objects.all().delete()
        told = [*stored, *self._sent()]
        return {name: [message for channel, message in told if channel == name] for name in WATCHED}

    def _sent(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the messages that this session has sent, except rings."""
        self._connection.poll()
        own = self._connection.get_backend_pid()
        heard = [one for one in self._connection.notifies if one.pid == own and one.payload]
        self._connection.notifies.clear()
        return [(one.channel, json.loads(one.payload)) for one in heard]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def sessions(transactional_db: None) -> Iterator[list[Session]]:
    """Two sessions with a table of their own."""
    sql("CREATE TABLE watched (id integer PRIMARY KEY, number integer, other integer)")
    sql("INSERT INTO watched VALUES (1, 1, 1)")
    sessions = [Session(), Session()]
    yield sessions
    for session in sessions:
        session.close()
    sql("DROP TABLE watched")
    for channel in WATCHED:
        sql(f"DROP FUNCTION {object_name('pgpubsub_channel_', channel)}")


def watch_all(options: dict[str, Any]) -> None:
    for channel, how in WATCHED.items():
        watch("watched", channel=channel, **how, **options)


def writes(column: str) -> list[str]:
    """Return an INSERT, an UPDATE and a DELETE that every option lets through."""
    return [
        f"INSERT INTO watched (id, {column}) VALUES (2, '5')",
        f"UPDATE watched SET {column} = '7' WHERE id = 2",
        "DELETE FROM watched WHERE id = 2",
    ]


def columns() -> set[str]:
    """Return the present columns of the table."""
    return {
        name
        for (name,) in sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'watched'::regclass "
            "AND attnum > 0 AND NOT attisdropped"
        )
    }


def marks(option: str, change: str) -> set[str]:
    """Return the writes that must be marked as stale: a new type has other operators."""
    fits = change in ("retyped", "replaced") and option in ("columns", "watch")
    if option == "ordering_key" or fits:
        return set()
    return {"UPDATE"} if option == "watch" else {"INSERT", "UPDATE", "DELETE"}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_changed_column_of_the_options_makes_messages_stale(
    sessions: list[Session], option: str, change: str
) -> None:
    """T3, T13: no write fails, no message is lost, and it can be repaired."""
    options = OPTIONS[option]
    watch_all(options)
    for session in sessions:
        for messages in session.told(*writes("number")).values():
            assert_told(messages, {*options.get("columns", columns())})

    sessions[0].execute(CHANGES[change])
    sessions.append(Session())
    column = {"renamed": "amount", "dropped": "other"}.get(change, "number")
    for session in sessions:
        for channel, messages in session.told(*writes(column)).items():
            stale = marks(option, change)
            travel = columns() if stale else {*options.get("columns", columns())}
            assert_told(messages, travel, stale)
            if "ordering_key" in options and "sent" not in channel:
                ordered = change in ("retyped", "replaced")
                keys = [None] * 3 if not ordered else ['["5"]', '["7"]', '["7"]']
                assert [message["key"] for message in messages] == keys

    remedied = json.loads(json.dumps(options).replace(*REMEDIES[change]))
    watch_all({k: v if isinstance(v, str) else tuple(v) for k, v in remedied.items()})
    travel = {*remedied.get("columns", columns())}
    for session in sessions:
        for messages in session.told(*writes(column)).values():
            assert_told(messages, travel)


def assert_told(
    messages: list[dict[str, Any]], columns: set[str], stale: Collection[str] = ()
) -> None:
    """Check that each write is told once, with these columns, and marked if it must be."""
    assert [message["op"] for message in messages] == ["INSERT", "UPDATE", "DELETE"]
    marked = {message["op"] for message in messages if message.get("$stale")}
    assert marked >= {*stale}
    assert bool(marked) == bool(stale)
    rows = [message[side] for message in messages for side in ("old", "new") if message[side]]
    assert [{*row} for row in rows] == [columns] * 4


def test_a_column_changed_and_written_in_one_transaction(table: str) -> None:
    """T3: a migration may write to a table that it has just altered."""
    watch(table, columns=("id", "name"), level="row")
    watch(table, columns=("id", "name"), channel="other")
    sql("UPDATE watched SET name = 'x'")
    taken()
    for change, stale in {
        "ALTER TABLE watched ALTER COLUMN name TYPE varchar(20)": False,
        "ALTER TABLE watched RENAME COLUMN name TO title": True,
        "ALTER TABLE watched RENAME COLUMN title TO name": False,
        "ALTER TABLE watched DROP COLUMN name": True,
        "ALTER TABLE watched ADD COLUMN name jsonb": False,
    }.items():
        sql(change)
        sql("UPDATE watched SET id = id + 10")
        told = taken()
        assert len(told) == 6
        assert [payload.get("$stale", False) for payload in told] == [stale] * 6


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_column_that_becomes_virtual_makes_messages_stale(
    table: str, option: str, level: str
) -> None:
    """T3: in PostgreSQL 18, reading it from a transition table is an internal error."""
    if connection.pg_version < 180000:
        pytest.skip("this server has no virtual columns")
    sql("ALTER TABLE watched ADD COLUMN number integer")
    watch(table, level=level, **OPTIONS[option])
    change = "DROP COLUMN number, ADD COLUMN number integer GENERATED ALWAYS AS (id + 1) VIRTUAL"
    sql(f"ALTER TABLE watched {change}")
    sql("INSERT INTO watched VALUES (4, 'd')")
    sql("UPDATE watched SET name = 'e' WHERE id = 4")
    sql("DELETE FROM watched WHERE id = 4")
    read = level == "statement" and "columns" in OPTIONS[option]
    stale = [payload["op"] for payload in taken() if payload.get("$stale")]
    assert stale == (["INSERT", "DELETE"] if read else [])


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize(
    "condition",
    [
        '(1 / ("new"."id" - 4) = 1)',
        '("new"."name"::integer = 1)',
        '("new"."name" ~ \'(\')',
        '("new"."id" * 2000000000 > 0)',
    ],
)
def test_a_condition_that_fails_for_a_value_makes_messages_stale(
    table: str, condition: str, level: str
) -> None:
    """T7: PostgreSQL plans it, but cannot evaluate it. No write may fail for that."""
    watch(table, condition=condition, level=level)
    sql("INSERT INTO watched VALUES (4, 'd'), (5, 'e')")
    sql("UPDATE watched SET name = 'f' WHERE id = 4")
    told = [payload for payload in taken() if "$stale" in payload]
    assert {payload["new"]["name"] for payload in told} >= {"d", "f"}


def test_a_table_with_the_column_by_which_rows_are_paired(db: None) -> None:
    """T8: its rows are sent whole."""
    sql("CREATE TABLE awkward (id integer, pgpubsub_position integer)")
    watch("awkward", watch=("id",))
    sql("INSERT INTO awkward VALUES (1, 7)")
    sql("UPDATE awkward SET pgpubsub_position = 8")
    inserted, updated = taken()
    assert inserted["new"] == {"id": 1, "pgpubsub_position": 7}
    assert updated["new"] == {"id": 1, "pgpubsub_position": 8}


def test_trying_takes_no_transaction_id(table: str) -> None:
    """P26: neither while the options fit nor afterwards, because what is tried writes nothing."""
    for level in ("statement", "row"):
        watch(table, channel=level, level=level, watch=("name",), condition='("new"."id" > 0)')
    sql("UPDATE watched SET name = name || '!'")
    sql("ALTER TABLE watched RENAME COLUMN name TO title")
    sql("UPDATE watched SET title = 'z'")
    (own,) = sql("SELECT txid_current()")
    rows = sql("SELECT xmin::text, count(*) FROM pgpubsub_sql_notification GROUP BY xmin::text")
    assert rows == [(str(own[0] % 2**32), 2 * 3 * 3)]  # statements, rows, channels
