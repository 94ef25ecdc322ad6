"""Schemas that are renamed, copied as text, or exchanged."""

from __future__ import annotations

import json
from typing import Any

import psycopg2
import pytest
from django.db import connection, transaction
from django.db.utils import ProgrammingError

from pgpubsub_sql.ignoring import ignore
from pgpubsub_sql.sql import render
from tests.triggers.tables import ALL, change, sql, taken, watch

HOWS: dict[str, dict[str, Any]] = {
    "statement": {},
    "row": {"level": "row"},
    "before": {"after": (), "before": ALL},
    "ephemeral": {"durable": False},
    "a condition": {"condition": '("new"."name" = \'never\')'},
    "a key": {"ordering_key": ("id",)},
    "never ignored": {"ignorable": False},
}
EACH = pytest.mark.parametrize("how", HOWS.values(), ids=HOWS.keys())

OURS = """
SELECT relname FROM pg_class
WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r'
AND (relname = 'watched' OR starts_with(relname, 'pgpubsub_sql_'))
"""
FUNCTIONS = """
SELECT pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = to_regnamespace(%s) AND starts_with(proname, 'pgpubsub_')
"""
TRIGGERS = """
SELECT pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger
WHERE NOT tgisinternal AND tgrelid = to_regclass(%s || '.watched')
"""


def told(schema: str) -> list[dict[str, Any]]:
    """Return the messages stored in *schema*, and delete them."""
    rows = sql(
        f"DELETE FROM {schema}.pgpubsub_sql_notification "
        "RETURNING id, (payload || jsonb_build_object('key', key))::text"
    )
    return [json.loads(payload) for _, payload in sorted(rows)]


def write(schema: str) -> None:
    sql(f"INSERT INTO {schema}.watched VALUES (7, 'x'), (8, 'y')")
    sql(f"UPDATE {schema}.watched SET name = 'z' WHERE id = 7")
    sql(f"DELETE FROM {schema}.watched WHERE id > 6")


WRITTEN = ["->7x", "->8y", "7x->7z"]


def check(messages: list[dict[str, Any]], how: dict[str, Any], *, stale: bool) -> None:
    """Check that all writes were told once, in order, and whole if stale."""
    assert [change(one) for one in messages][:3] == WRITTEN
    assert sorted(change(one) for one in messages[3:]) == ["7z->", "8y->"]
    assert {one.get("$stale", False) for one in messages} == {stale}
    keys = [f"[{(one['new'] or one['old'])['id']}]" for one in messages]
    assert [one["key"] for one in messages] == (
        keys if "ordering_key" in how else [None] * len(keys)
    )
    assert {one["context"]["who"] for one in messages} == {"tests"}


@pytest.fixture(autouse=True)
def _context(db: None) -> None:
    sql("""SET LOCAL pgpubsub.notification_context = '{"who": "tests"}'""")


@EACH
def test_writes_to_a_renamed_schema_are_stored_in_it(table: str, how: dict[str, Any]) -> None:
    """F5: no write fails."""
    watch(table, **how)
    sql("ALTER SCHEMA public RENAME TO acme2")
    write("acme2")
    check(told("acme2"), how, stale=True)


@EACH
def test_writes_to_a_renamed_schema_do_not_reach_the_one_with_its_old_name(
    table: str, how: dict[str, Any]
) -> None:
    """F5: one tenant's writes never reach another tenant."""
    watch(table, **how)
    sql("ALTER SCHEMA public RENAME TO acme2")
    copy("acme2", "public", replace=True)
    write("acme2")
    check(told("acme2"), how, stale=True)
    assert told("public") == []


def copy(source: str, target: str, *, replace: bool) -> None:
    """Copy our tables and functions as tools do: as text, with the schema replaced or not."""
    sql(f"CREATE SCHEMA {target}")
    for (name,) in sql(OURS, source):
        sql(f"CREATE TABLE {target}.{name} (LIKE {source}.{name} INCLUDING ALL)")
    # As pg_dump does: one function may need another that is not copied yet.
    sql(f"SET LOCAL search_path = {target}; SET LOCAL check_function_bodies = off")
    for (text,) in sql(FUNCTIONS, source):
        create, name, rest = text.partition(f"{source}.")
        assert name, "the name needs quotes"
        sql(f"{create}{target}.{rest.replace(f'{source}.', f'{target}.') if replace else rest}")
    sql("SET LOCAL search_path = ''")
    for (text,) in sql(TRIGGERS, source):
        sql(text.replace(f"{source}.", f"{target}."))


@EACH
def test_a_schema_copied_as_text_is_a_channel_of_its_own(table: str, how: dict[str, Any]) -> None:
    """F6: with the same options."""
    watch(table, **how)
    copy("public", "clone", replace=True)
    write("clone")
    if how == {"durable": False} or "condition" in how:
        assert told("clone") == []
    else:
        check(told("clone"), how, stale=False)
    assert told("public") == []


@EACH
def test_writes_to_a_copy_whose_functions_name_the_original_stay_in_the_copy(
    table: str, how: dict[str, Any]
) -> None:
    """F6."""
    watch(table, **how)
    copy("public", "clone", replace=False)
    write("clone")
    check(told("clone"), how, stale=True)
    assert told("public") == []


def test_an_ephemeral_message_names_the_schema_of_the_copy(transactional_db: None) -> None:
    """F6: so only the workers of the copy handle it."""
    with transaction.atomic():
        sql("CREATE TABLE watched ()")
        copy("public", "clone", replace=True)
    session = psycopg2.connect(dbname=connection.settings_dict["NAME"])
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute("LISTEN elsewhere; SELECT clone.pgpubsub_send_v1('elsewhere', '{}')")
    session.poll()
    (message,) = session.notifies
    session.close()
    sql("DROP SCHEMA clone CASCADE; DROP TABLE watched")
    assert json.loads(message.payload)["$schema"] == "clone"


def test_nothing_is_stale_in_a_schema_whose_name_needs_quotes(table: str) -> None:
    """F5: nothing has moved."""
    odd, quoted = "it's. Odd", '"it\'s. Odd"'
    sql("DROP FUNCTION pgpubsub_channel_watched CASCADE")
    sql(f"ALTER SCHEMA public RENAME TO {quoted}")
    sql(f"SET LOCAL search_path = {quoted}")
    for helper in ("bucket_v1", "must_notify", "send_v1"):
        sql(render(f"helpers/{helper}", schema=odd))
    watch(table, target={"schema": odd, "helpers": odd})
    write(quoted)
    check(told(quoted), {}, stale=False)
    ((schema,),) = sql("SELECT (parse_ident(%s))[1]", f"{quoted}.pgpubsub_send_v1")
    assert schema == odd


def test_ignored_channels_stay_ignored_in_a_renamed_schema(table: str) -> None:
    """F5."""
    watch(table, channel="always", ignorable=False)
    sql("ALTER SCHEMA public RENAME TO acme2")
    with ignore():
        write("acme2")
    rows = sql("SELECT channel FROM acme2.pgpubsub_sql_notification")
    assert rows == [("always",)] * 5


def test_a_table_that_moves_to_another_schema_alone_is_not_stale(table: str) -> None:
    """F5."""
    sql("CREATE SCHEMA elsewhere")
    sql("ALTER TABLE watched SET SCHEMA elsewhere")
    write("elsewhere")
    messages = taken()
    assert len(messages) == 5
    assert not any("$stale" in one for one in messages)


def test_a_partition_in_another_schema_is_not_stale(db: None) -> None:
    """F5: only after a rename are its rows stale, like all others."""
    sql("CREATE SCHEMA elsewhere")
    sql("CREATE TABLE watched (id integer, name text) PARTITION BY RANGE (id)")
    watch("watched")
    sql("CREATE TABLE elsewhere.part PARTITION OF watched FOR VALUES FROM (0) TO (9)")
    sql("INSERT INTO watched VALUES (1, 'a')")
    sql("INSERT INTO elsewhere.part VALUES (2, 'b')")
    assert [(change(one), "$stale" in one) for one in taken()] == [("->1a", False), ("->2b", False)]
    sql("ALTER SCHEMA public RENAME TO acme2")
    sql("INSERT INTO acme2.watched VALUES (3, 'c')")
    sql("INSERT INTO elsewhere.part VALUES (4, 'd')")
    messages = told("acme2")
    assert [(change(one), "$stale" in one) for one in messages] == [("->3c", True), ("->4d", True)]


def test_a_write_fails_if_only_our_table_has_moved(table: str) -> None:
    """F5: nothing can be stored, and the message must not be lost silently."""
    sql("CREATE SCHEMA elsewhere")
    sql("ALTER TABLE pgpubsub_sql_notification SET SCHEMA elsewhere")
    with pytest.raises(ProgrammingError, match="pgpubsub_sql_notification"), transaction.atomic():
        write("public")
