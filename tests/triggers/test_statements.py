"""Every kind of statement that writes."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests.app.models import Item
from tests.ledger import copy
from tests.triggers.tables import changes, sql, taken, watch

STATEMENTS = {
    "one row": (
        "INSERT INTO watched VALUES (4, 'd')",
        ["->4d"],
    ),
    "several rows": (
        "INSERT INTO watched VALUES (4, 'd'), (5, 'e')",
        ["->4d", "->5e"],
    ),
    "rows of a query": (
        "INSERT INTO watched SELECT id + 10, name FROM watched ORDER BY id",
        ["->11a", "->12b", "->13c"],
    ),
    "a conflict, nothing done": (
        "INSERT INTO watched VALUES (1, 'z'), (4, 'd') ON CONFLICT DO NOTHING",
        ["->4d"],
    ),
    "a conflict, updated": (
        "INSERT INTO watched VALUES (1, 'z'), (4, 'd'), (3, 'x')"
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        ["->4d", "1a->1z", "3c->3x"],
    ),
    "an update": (
        "UPDATE watched SET name = name || '!' WHERE id < 3",
        ["1a->1a!", "2b->2b!"],
    ),
    "an update that changes nothing": (
        "UPDATE watched SET name = name",
        ["1a->1a", "2b->2b", "3c->3c"],
    ),
    "an update of the primary keys": (
        "UPDATE watched SET id = id + 10",
        ["1a->11a", "2b->12b", "3c->13c"],
    ),
    "an update from another table": (
        "UPDATE watched SET name = other.name FROM watched AS other "
        "WHERE other.id = watched.id % 3 + 1",
        ["1a->1b", "2b->2c", "3c->3a"],
    ),
    "a delete": (
        "DELETE FROM watched WHERE id <> 2",
        ["1a->", "3c->"],
    ),
    "a delete with another table": (
        "DELETE FROM watched USING (VALUES (2)) AS gone (id) WHERE gone.id = watched.id",
        ["2b->"],
    ),
    "several updates of one statement": (
        "WITH one AS (UPDATE watched SET id = 10, name = 'x' WHERE id = 1),"
        "two AS (UPDATE watched SET name = 'y' WHERE id = 2)"
        "UPDATE watched SET name = 'z' WHERE id = 3",
        ["1a->10x", "2b->2y", "3c->3z"],
    ),
    "a move within one statement": (
        "WITH gone AS (DELETE FROM watched WHERE id = 1 RETURNING *)"
        "INSERT INTO watched SELECT id + 10, name FROM gone",
        ["->11a", "1a->"],
    ),
    "all three in one statement": (
        "MERGE INTO watched USING (VALUES (1, 'x'), (2, 'y'), (4, 'd')) AS new (id, name)"
        "ON new.id = watched.id "
        "WHEN MATCHED AND new.id = 2 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET id = 10, name = new.name "
        "WHEN NOT MATCHED THEN INSERT VALUES (new.id, new.name)",
        ["->4d", "1a->10x", "2b->"],
    ),
    "no row inserted": ("INSERT INTO watched SELECT * FROM watched WHERE false", []),
    "no row updated": ("UPDATE watched SET name = 'z' WHERE false", []),
    "no row deleted": ("DELETE FROM watched WHERE false", []),
    "what nobody listens to": ("TRUNCATE watched", []),
}


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize(("statement", "expected"), STATEMENTS.values(), ids=STATEMENTS.keys())
def test_each_written_row_is_told_once(
    table: str, statement: str, expected: list[str], level: str
) -> None:
    """P26: old and new row together; a statement without rows tells nothing."""
    watch("watched", level=level)
    if statement.startswith("MERGE") and connection.pg_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    sql(statement)
    assert sorted(changes()) == sorted(expected)


def test_rows_are_told_in_the_order_of_the_statement(table: str) -> None:
    """P16."""
    sql("INSERT INTO watched SELECT n, 'x' FROM generate_series(1000, 101, -1) AS n")
    assert changes() == [f"->{n}x" for n in range(1000, 100, -1)]


@pytest.mark.parametrize("level", ["statement", "row"])
def test_copy_is_told(table: str, level: str) -> None:
    """COPY is one statement like any other."""
    watch("watched", level=level)
    copy("COPY watched FROM STDIN", "4\td\n5\te\n")
    assert changes() == ["->4d", "->5e"]


def test_rows_are_told_as_a_before_trigger_has_changed_them(table: str) -> None:
    """The message has what is in the table."""
    sql(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.name := upper(NEW.name); RETURN NEW; END'"
    )
    sql(
        "CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON watched "
        "FOR EACH ROW EXECUTE FUNCTION shout()"
    )
    sql("INSERT INTO watched VALUES (4, 'd')")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    assert changes() == ["->4D", "1a->1Z"]


@pytest.mark.parametrize("level", ["statement", "row"])
def test_cascades_of_foreign_keys_are_told(table: str, level: str) -> None:
    """Rows that they delete, update or set to NULL, old and new together."""
    watch("watched", level=level)
    sql(
        "CREATE TABLE child (id integer, watched_id integer REFERENCES watched "
        "ON DELETE CASCADE ON UPDATE CASCADE)"
    )
    sql("INSERT INTO child VALUES (7, 1), (8, 2), (9, 2)")
    watch("child", channel="child", level=level)
    sql("UPDATE watched SET id = id + 10")
    assert sorted(changes()) == ["1a->11a", "2b->12b", "3c->13c", "71->711", "82->812", "92->912"]
    sql("DELETE FROM watched WHERE id > 11")
    assert sorted(changes()) == ["12b->", "13c->", "812->", "912->"]


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize(("action", "left"), [("SET NULL", None), ("SET DEFAULT", 3)])
def test_foreign_keys_set_to_null_are_told(
    table: str, action: str, left: int | None, level: str
) -> None:
    """PostgreSQL itself makes this UPDATE from a DELETE on another table."""
    sql(
        "CREATE TABLE child (id integer, watched_id integer DEFAULT 3 "
        f"REFERENCES watched ON DELETE {action})"
    )
    sql("INSERT INTO child VALUES (7, 1), (8, 2), (9, 2)")
    watch("child", channel="child", level=level)
    sql("DELETE FROM watched WHERE id = 2")
    assert sorted(changes()) == ["2b->", f"82->8{left}", f"92->9{left}"]


@pytest.mark.parametrize("level", ["statement", "row"])
def test_writes_of_other_triggers_are_told_once(table: str, level: str) -> None:
    """A trigger that writes to the same table is a writer like any other."""
    watch("watched", level=level)
    sql(
        "CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        "INSERT INTO watched VALUES (NEW.id * 10, 'e'); "
        "UPDATE watched SET name = 'x' WHERE id = 1; RETURN NULL; END$$"
    )
    sql(
        "CREATE TRIGGER echo AFTER INSERT ON watched FOR EACH ROW "
        "WHEN (NEW.id < 100) EXECUTE FUNCTION echo()"
    )
    sql("INSERT INTO watched VALUES (4, 'd'), (5, 'e')")
    assert sorted(changes()) == sorted(
        ["->4d", "->5e", "->40e", "->50e", "->400e", "->500e", "1a->1x", *["1x->1x"] * 3]
    )


@pytest.mark.parametrize("level", ["statement", "row"])
def test_a_truncate_of_several_tables_is_one_message_a_table(table: str, level: str) -> None:
    """P4: also for tables that CASCADE reaches."""
    sql("CREATE TABLE child (watched_id integer REFERENCES watched)")
    sql("CREATE TABLE other (id integer)")
    for name in ("watched", "child", "other"):
        watch(name, "truncate", channel=name, level=level)
    sql("TRUNCATE watched, other CASCADE")
    rows = sql("SELECT channel, payload FROM pgpubsub_sql_notification ORDER BY channel")
    assert [channel for channel, _ in rows] == ["child", "other", "watched"]
    assert {(p["op"], p["when"], p["old"], p["new"]) for p in taken()} == {
        ("TRUNCATE", "AFTER", None, None)
    }


def test_writes_of_the_orm_are_told(db: None) -> None:
    """Through instances and querysets."""
    item = Item.objects.create(name="one")
    item.name = "uno"
    item.save()
    Item.objects.bulk_create([Item(name="two"), Item(name="three")])
    Item.objects.filter(name="two").update(name="due")
    Item.objects.update_or_create(pk=item.pk, defaults={"name": "ein"})
    Item.objects.all().delete()
    told = [
        (payload["op"], (payload["old"] or {}).get("name"), (payload["new"] or {}).get("name"))
        for payload in taken()
    ]
    assert told == [
        ("INSERT", None, "one"),
        ("UPDATE", "one", "uno"),
        ("INSERT", None, "two"),
        ("INSERT", None, "three"),
        ("UPDATE", "two", "due"),
        ("UPDATE", "uno", "ein"),
        *(("DELETE", name, None) for name in sorted_by_order_of_deletion(told)),
    ]


def sorted_by_order_of_deletion(told: list[Any]) -> list[str]:
    names = [old for op, old, _ in told if op == "DELETE"]
    assert sorted(names) == ["due", "ein", "three"]
    return names


def test_writes_to_another_apps_model_are_told(db: None) -> None:
    """P24: a trigger on ``auth.User`` sees what Django's own code writes."""
    User.objects.create_user("ann")
    (payload,) = taken()
    assert payload["new"]["username"] == "ann"


def test_the_payload_of_a_change(table: str) -> None:
    """Key by key."""
    sql("SET LOCAL pgpubsub.notification_context = '{\"user\": 7}'")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    assert taken() == [
        {
            "op": "UPDATE",
            "when": "AFTER",
            "old": {"id": 1, "name": "a"},
            "new": {"id": 1, "name": "z"},
            "context": {"user": 7},
        }
    ]
