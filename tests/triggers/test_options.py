"""The options columns, watch, condition and ordering_key."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from django.db import NotSupportedError, transaction

from pgpubsub_sql.rows import decode_change
from tests.app.models import Item
from tests.triggers.tables import ALL, changes, sql, taken, watch

LEVELS = pytest.mark.parametrize("level", ["statement", "row"])


def condition(text: str) -> str:
    """Return *text* with columns such as ``old.name`` quoted like the compiler's."""
    for row in ("old", "new"):
        for column in ("id", "name"):
            text = text.replace(f"{row}.{column}", f'"{row}"."{column}"')
    return text


# --- columns --------------------------------------------------------------------------------------


@pytest.fixture
def person(db: None) -> str:
    """A table with more columns than are sent."""
    sql("CREATE TABLE person (id integer PRIMARY KEY, name text, secret text, born date)")
    sql("INSERT INTO person VALUES (1, 'Ann', 'x', '2000-01-01')")
    return "person"


@LEVELS
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_only_the_columns_of_the_option_are_sent(person: str, level: str, durable: bool) -> None:
    """P13: no other column leaves the table, whatever the statement is."""
    watch(person, level=level, columns=("id", "name"), durable=durable)
    sql("CREATE TABLE sent (payload jsonb)")
    sql(
        "CREATE OR REPLACE FUNCTION pgpubsub_send_v1(channel text, payload jsonb) RETURNS void "
        "LANGUAGE sql AS 'INSERT INTO public.sent VALUES (payload)'"
    )
    sql("INSERT INTO person VALUES (2, 'Bea', 'y', '2000-01-02')")
    sql("UPDATE person SET name = 'Cea', secret = 'z'")
    sql("DELETE FROM person")
    told = (
        taken()
        if durable
        else [json.loads(sent) for (sent,) in sql("SELECT payload::text FROM sent")]
    )
    assert [(payload["op"], payload["old"], payload["new"]) for payload in told] == [
        ("INSERT", None, {"id": 2, "name": "Bea"}),
        ("UPDATE", {"id": 1, "name": "Ann"}, {"id": 1, "name": "Cea"}),
        ("UPDATE", {"id": 2, "name": "Bea"}, {"id": 2, "name": "Cea"}),
        ("DELETE", {"id": 1, "name": "Cea"}, None),
        ("DELETE", {"id": 2, "name": "Cea"}, None),
    ]


def test_only_the_columns_of_the_option_are_sent_by_before_triggers(person: str) -> None:
    """P1, P13: and the rows are written."""
    watch(person, after=(), before=ALL, columns=("id", "name"))
    sql("INSERT INTO person VALUES (2, 'Bea', 'y', '2000-01-02')")
    sql("UPDATE person SET secret = 'z'")
    sql("DELETE FROM person WHERE id = 1")
    assert changes() == ["->2Bea", "1Ann->1Ann", "2Bea->2Bea", "1Ann->"]
    assert sql("SELECT id, secret FROM person") == [(2, "z")]


def test_columns_that_were_not_sent_are_deferred(db: None) -> None:
    """P22: a listener's instance loads them from the database, and save() does not clear them."""
    item = Item.objects.create(name="one", number=7)
    taken()
    for columns in (("id", "name"), ("id", "gone")):  # the second no longer fits the table
        watch("app_item", columns=columns)
        sql("UPDATE app_item SET name = 'uno'")
        (payload,) = (one for one in taken_by("watched"))
        change = decode_change(Item, json.dumps(payload), using="default")
        deferred = {"number", "amount", "data"} if columns[1] == "name" else set()
        assert change.new.get_deferred_fields() == deferred
        assert (change.new.pk, change.new.name, change.new.number) == (item.pk, "uno", 7)


def taken_by(channel: str) -> list[dict[str, Any]]:
    """Return the messages that one channel has stored, and delete those of all."""
    rows = sql("DELETE FROM pgpubsub_sql_notification RETURNING id, channel, payload::text")
    return [json.loads(payload) for _, name, payload in sorted(rows) if name == channel]


# --- watch ----------------------------------------------------------------------------------------


@LEVELS
def test_an_update_counts_if_a_watched_column_changed(person: str, level: str) -> None:
    """P26: a save that changes no watched column is not told; otherwise the row is sent whole."""
    watch(person, level=level, watch=("name", "born"))
    sql("UPDATE person SET name = name, secret = 'y', born = born")
    assert taken() == []
    sql("UPDATE person SET name = NULL")
    sql("UPDATE person SET name = NULL, id = 7")
    sql("UPDATE person SET born = '2000-01-02'")
    first, second = taken()
    assert first["old"] == {"id": 1, "name": "Ann", "secret": "y", "born": "2000-01-01"}
    assert first["new"] == {"id": 1, "name": None, "secret": "y", "born": "2000-01-01"}
    assert second["new"] == {"id": 7, "name": None, "secret": "y", "born": "2000-01-02"}
    sql("INSERT INTO person VALUES (2)")
    sql("DELETE FROM person WHERE id = 7")
    sql("UPDATE person SET secret = 'z'")
    assert [payload["op"] for payload in taken()] == ["INSERT", "DELETE"]


@LEVELS
def test_of_many_rows_only_those_that_changed_are_sent(table: str, level: str) -> None:
    """P26: each with its own old row."""
    watch(table, level=level, watch=("name",))
    sql("UPDATE watched SET id = id + 10, name = CASE id WHEN 2 THEN 'b' ELSE name || '!' END")
    assert sorted(changes()) == ["1a->11a!", "3c->13c!"]
    sql(
        "INSERT INTO watched VALUES (11, 'a!'), (13, 'x') "
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    )
    assert sorted(changes()) == ["13c!->13x"]


COLLATION = (
    "CREATE COLLATION IF NOT EXISTS same "
    "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
)
CHANGED: dict[str, tuple[str, str, str]] = {
    "json has no equality": ("json", '{"a": 1}', '{"a": 2}'),
    "xml has no equality": ("xml", "<a/>", "<b/>"),
    "point has no equality of its own": ("point", "(1,2)", "(1,3)"),
    "arrays": ("integer[]", "{1,2}", "{1,NULL}"),
    "ranges": ("int4range", "[1,2)", "[1,3)"),
    "a long text": ("text", "x" * 100_000, "x" * 99_999 + "y"),
    "a record": ("pg_catalog.pg_lsn", "0/1", "0/2"),
    "numbers that are equal": ("numeric", "1.0", "1.00"),
    "floats that are equal": ("float8", "0", "-0"),
    "letters that a collation holds equal": ("text COLLATE same", "A", "a"),
}


@LEVELS
@pytest.mark.parametrize(("type_", "one", "other"), CHANGED.values(), ids=CHANGED.keys())
def test_watch_compares_columns_of_any_type(
    db: None, level: str, type_: str, one: str, other: str
) -> None:
    """T7: stored bytes are compared, so a type needs no equality; its own is not used."""
    try:
        with transaction.atomic():
            sql(COLLATION if "COLLATE" in type_ else "SELECT")
            sql(f"CREATE TABLE typed (id integer, value {type_})")
            sql("INSERT INTO typed VALUES (1, %s)", one)
    except NotSupportedError as error:
        pytest.skip(str(error))  # servers are built without XML or ICU
    watch("typed", level=level, watch=("value",))
    sql("UPDATE typed SET value = %s", one)
    sql("UPDATE typed SET id = 2")
    assert taken() == []
    sql("UPDATE typed SET value = %s", other)
    assert len(taken()) == 1


@LEVELS
def test_a_watched_column_need_not_be_sent(person: str, level: str) -> None:
    """P13, P26."""
    watch(person, level=level, watch=("secret",), columns=("id",))
    sql("UPDATE person SET name = 'z'")
    sql("UPDATE person SET secret = 'z'")
    assert changes() == ["1->1"]


# --- condition ------------------------------------------------------------------------------------

CONDITIONS: dict[str, tuple[str, list[str]]] = {
    "the new row": ("new.name = 'x'", ["->4x", "1a->1x"]),
    "the old row": ("old.name = 'a'", ["1a->1x"]),
    "old against new": ("old.id < 3 AND old.name <> new.name", ["1a->1x", "2b->2y"]),
    "no such row": ("old.id IS NULL", ["->4x", "->5y"]),
    "either": ("old.name = 'c' OR new.name = 'y'", ["->5y", "2b->2y", "3c->"]),
    "a disjunction is not torn apart": ("true OR new.name = 'x'", [
        "->4x", "->5y", "1a->1x", "2b->2y", "3c->"]),
    "what is unknown": ("new.name = NULL", []),
}  # fmt: skip


@pytest.mark.parametrize("level", ["statement", "row", "before"])
@pytest.mark.parametrize("watched", [(), ("name",)], ids=["", "with watch"])
@pytest.mark.parametrize(("text", "expected"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_a_condition_chooses_rows(
    table: str, level: str, watched: tuple[str, ...], text: str, expected: list[str]
) -> None:
    """T7: if there is no old or no new row, its columns are NULL."""
    options: dict[str, Any] = {"condition": condition(text), "watch": watched}
    sql('DROP FUNCTION "pgpubsub_channel_watched" CASCADE')
    if level == "before":
        watch(table, after=(), before=ALL, **options)
    else:
        watch(table, level=level, **options)
    sql("INSERT INTO watched VALUES (4, 'x'), (5, 'y')")
    sql("UPDATE watched SET name = CASE id WHEN 1 THEN 'x' ELSE 'y' END WHERE id < 3")
    sql("DELETE FROM watched WHERE id = 3")
    assert changes() == expected
    assert sql("SELECT count(*) FROM watched") == [(4,)]


@LEVELS
def test_a_column_of_the_condition_need_not_be_sent(person: str, level: str) -> None:
    """P13."""
    watch(person, level=level, condition='"new"."secret" = \'y\'', columns=("id",))
    sql("INSERT INTO person VALUES (2, 'Bea', 'y'), (3, 'Cea', 'z')")
    assert changes() == ["->2"]


def test_rows_that_are_left_out_do_not_ring(table: str) -> None:
    """P26: by statement and by row."""
    sql("CREATE TABLE calls (channel text)")
    sql(
        "CREATE OR REPLACE FUNCTION pgpubsub_must_notify(channel text) RETURNS boolean "
        "LANGUAGE sql AS 'INSERT INTO public.calls VALUES (channel) RETURNING true'"
    )
    for level in ("statement", "row"):
        watch(table, level=level, condition=condition("new.name = 'x'"))
        sql("INSERT INTO watched SELECT max(id) + 1, 'y' FROM watched")
        sql("UPDATE watched SET name = name")
    assert sql("SELECT * FROM calls") == []


@LEVELS
def test_a_truncate_is_told_whatever_the_options_are(table: str, level: str) -> None:
    """It has no rows to choose from."""
    watch(table, "truncate", level=level, watch=("name",), condition=condition("new.name = 'x'"))
    sql("TRUNCATE watched")
    assert [payload["op"] for payload in taken()] == ["TRUNCATE"]


# --- the ordering key -----------------------------------------------------------------------------


def keys() -> list[str | None]:
    """Return the ordering keys of the stored messages, and delete these."""
    rows = sql("DELETE FROM public.pgpubsub_sql_notification RETURNING id, key")
    return [key for _, key in sorted(rows)]


@LEVELS
def test_the_ordering_key_is_the_new_rows_or_else_the_old_ones(table: str, level: str) -> None:
    """P16: spelled as a JSON array."""
    watch(table, level=level, ordering_key=("name",))
    sql("INSERT INTO watched VALUES (4, 'ä \"quoted\"'), (5, NULL)")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    sql("DELETE FROM watched WHERE id = 2")
    assert keys() == ['["ä \\"quoted\\""]', None, '["z"]', '["b"]']


@LEVELS
@pytest.mark.parametrize("columns", [None, ("id", "name")])
def test_a_key_of_several_columns(table: str, level: str, columns: Any) -> None:
    """In the declared order; NULL is a value like any other, unless all are NULL."""
    watch(table, level=level, ordering_key=("name", "id"), columns=columns)
    sql("INSERT INTO watched VALUES (4, NULL)")
    sql("ALTER TABLE watched DROP CONSTRAINT watched_pkey, ALTER id DROP NOT NULL")
    sql("INSERT INTO watched VALUES (NULL, NULL)")
    sql("TRUNCATE watched")
    assert keys() == ["[null, 4]", None]


def test_values_of_a_key_are_spelled_as_in_the_message(db: None) -> None:
    """Numbers, dates and documents."""
    sql("CREATE TABLE typed (a numeric, b date, c jsonb)")
    watch("typed", ordering_key=("a", "b", "c"))
    sql("INSERT INTO typed VALUES (1.50, '2026-01-31', '{\"b\": 1, \"a\": null}')")
    assert keys() == ['[1.50, "2026-01-31", {"a": null, "b": 1}]']


@LEVELS
def test_a_long_key_does_not_fail_the_write(table: str, level: str) -> None:
    """An index row holds 2,704 bytes: a key of more than 1,000 is stored as a digest."""
    watch(table, level=level, ordering_key=("name",))
    long = random.Random(1).randbytes(10_000).hex()
    for name in (long, long, long + "!", "short"):
        sql("UPDATE watched SET name = %s WHERE id = 1", name)
    first, second, other, short = keys()
    assert first == second != other
    assert str(first).startswith("sha256:")
    assert short == '["short"]'
