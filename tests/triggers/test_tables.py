"""All kinds of tables, and changes of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.triggers.tables import ALL, changes, sql, taken, watch

COLUMNS = [
    *("id", "context", "pairing", "old", "new", "position", "changed", "n", "o", "tg_op", "op"),
    *("channel", "payload", "before", "after", "found", "channel_function", "pgpubsub_old"),
    *("pgpubsub_new", "pgpubsub_sql_notification", "notification", "TG_WHEN", "row_number", "when"),
    *("picked", "stale", "chosen", "key", "parts", "tg_level", "home", "messages", "keys"),
]


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_columns_named_as_our_variables(db: None, durable: bool) -> None:
    """T8."""
    listed = ", ".join(f'"{name}" integer' for name in COLUMNS)
    sql(f"CREATE TABLE awkward ({listed})")
    watch("awkward", durable=durable)
    values = dict(zip(COLUMNS, range(len(COLUMNS)), strict=True))
    sql(f"INSERT INTO awkward VALUES ({', '.join(map(str, values.values()))})")
    sql('UPDATE awkward SET "context" = 77, "o" = 78, "n" = NULL')
    sql("DELETE FROM awkward")
    changed = values | {"context": 77, "o": 78, "n": None}
    told = [(payload["op"], payload["old"], payload["new"]) for payload in taken()]
    expected = [("INSERT", None, values), ("UPDATE", values, changed), ("DELETE", changed, None)]
    assert told == (expected if durable else [])


@pytest.mark.parametrize(
    "how", [{}, {"level": "row"}, {"after": (), "before": ALL}], ids=["statement", "row", "before"]
)
def test_options_mean_columns_not_our_variables_of_that_name(db: None, how: dict[str, Any]) -> None:
    """T8."""
    names, listed = tuple(COLUMNS), ", ".join(f'"{name}" integer' for name in COLUMNS)
    sql(f"CREATE TABLE awkward ({listed})")
    each = " AND ".join(f'("new"."{name}" = 7 OR "old"."{name}" = 7)' for name in names)
    options = {"columns": names, "watch": names, "condition": each, "ordering_key": names}
    watch("awkward", **options, **how)
    sevens = ", ".join("7" for _ in names)
    sql(f"INSERT INTO awkward VALUES ({sevens})")
    for name in names:
        sql(f'UPDATE awkward SET "{name}" = 7')
        sql(f'UPDATE awkward SET "{name}" = 8')
        sql(f'UPDATE awkward SET "{name}" = 7')
    sql("DELETE FROM awkward")
    told = taken()
    assert [payload["op"] for payload in told] == [
        *("INSERT", *["UPDATE"] * 2 * len(names), "DELETE")
    ]
    assert not any("$stale" in payload for payload in told)
    assert {*told[0]["new"]} == {*names}


TABLE_NAMES = ["100% %s %(x)s", "o", "n", "changed", "pgpubsub_old", "pgpubsub_new", 'dou""ble']


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_tables_named_as_our_aliases(db: None, name: str) -> None:
    """T8: also with a percent sign, which is no parameter."""
    sql(f'CREATE TABLE "{name}" (id integer, name text)')
    watch(name)
    sql(f"INSERT INTO \"{name}\" VALUES (1, 'a')")
    sql(f"UPDATE \"{name}\" SET name = 'z'")
    sql(f'DELETE FROM "{name}"')
    assert changes() == ["->1a", "1a->1z", "1z->"]


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_table_may_change_within_a_session(table: str, durable: bool) -> None:
    """T3: the function names no columns, so any may be added, changed and dropped."""
    watch("watched", durable=durable)
    for change in (
        "SELECT 1",
        "ALTER TABLE watched ADD COLUMN age integer DEFAULT 7",
        "ALTER TABLE watched ALTER COLUMN age TYPE text",
        "ALTER TABLE watched RENAME COLUMN name TO title",
        "ALTER TABLE watched DROP COLUMN title",
        "ALTER TABLE watched RENAME TO renamed",
        "CREATE SCHEMA moved; ALTER TABLE renamed SET SCHEMA moved; "
        "SET LOCAL search_path = moved, public",
    ):  # fmt: skip
        sql(change)
        name = "renamed" if "renamed" in change.lower() else "watched"
        sql(f"INSERT INTO {name} (id) VALUES (4)")
        sql(f"UPDATE {name} SET id = 5 WHERE id = 4")
        sql(f"DELETE FROM {name} WHERE id = 5")
        keys = sorted(row[0] for row in sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass "
            "AND attnum > 0 AND NOT attisdropped", name))  # fmt: skip
        told = taken()
        assert [sorted(payload["new"] or payload["old"]) for payload in told] == [
            keys
        ] * 3 * durable


def test_two_channels_on_one_table(table: str) -> None:
    """P4: each has its own function, and neither disturbs the other."""
    watch("watched", "update", channel="second")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    rows = sql("SELECT channel FROM pgpubsub_sql_notification ORDER BY channel")
    assert rows == [("second",), ("watched",)]


def test_writes_through_a_view_and_a_function_are_told(table: str) -> None:
    """Only the table counts."""
    sql("CREATE VIEW seen AS SELECT * FROM watched")
    sql(
        "CREATE FUNCTION add() RETURNS void LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO seen VALUES (4, 'd'); UPDATE seen SET name = 'z' WHERE id = 4; END$$"
    )
    sql("SELECT add()")
    assert changes() == ["->4d", "4d->4z"]


def test_a_deferred_constraint_does_not_disturb_triggers(table: str) -> None:
    """Triggers fire, and the table can be altered."""
    sql("CREATE TABLE child (watched_id integer REFERENCES watched DEFERRABLE INITIALLY DEFERRED)")
    watch("child", channel="child")
    sql("INSERT INTO child VALUES (1)")
    watch("child", channel="child")
    assert changes() == ["->1"]


def test_a_function_may_be_replaced_behind_a_prepared_statement(table: str) -> None:
    """The same plan is executed again and again meanwhile."""
    sql("PREPARE one AS UPDATE watched SET name = $1 WHERE id = $2")
    for round_ in range(8):
        sql(f"EXECUTE one('{round_}', 1)")
        if round_ == 4:
            watch("watched", durable=False)
        if round_ == 5:
            watch("watched")
    sql("DEALLOCATE one")
    assert changes() == ["1a->10", "10->11", "11->12", "12->13", "13->14", "15->16", "16->17"]


def test_writes_take_no_further_transaction_ids(table: str) -> None:
    """P26: no EXCEPTION block surrounds a write, as each would take an id of its own."""
    sql("INSERT INTO watched VALUES (4, 'd')")
    (own,) = sql("SELECT txid_current()")
    rows = sql("SELECT DISTINCT xmin::text FROM pgpubsub_sql_notification")
    assert rows == [(str(own[0] % 2**32),)]
