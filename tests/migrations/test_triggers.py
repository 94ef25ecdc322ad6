"""The installed triggers: every way to write, by every kind of writer."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.utils import ProgrammingError

from pgpubsub_sql.models import LongPayload, Notification
from pgpubsub_sql.sql.trigger import Site, Trigger, create
from tests.app.models import Item
from tests.conftest import eventually

ALL = ("insert", "update", "delete")


def sql(statement: str, *parameters: Any) -> list[Any]:
    """Run a statement, and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def watch(db_table: str, *events: str, channel: str = "watched", durable: bool = True) -> None:
    """Install a trigger on any table, as ``migrate`` does."""
    trigger = Trigger(channel=channel, model="app.any", after=events or ALL, durable=durable)
    site = Site(db_table=db_table, schema="public", helpers="public", owner="tests")
    for statement in create(trigger, site):
        sql(statement)


def taken() -> list[dict[str, Any]]:
    """Return the payloads that were stored, and forget them."""
    rows = sql("DELETE FROM public.pgpubsub_sql_notification RETURNING id, payload::text")
    return [json.loads(payload) for _, payload in sorted(rows)]


def changes() -> list[str]:
    """Return what was stored as ``old->new``, each row by its values in a row: ``1a->1z``."""
    return [f"{brief(payload['old'])}->{brief(payload['new'])}" for payload in taken()]


def brief(row: dict[str, Any] | None) -> str:
    return "".join(str(value) for value in (row or {}).values())


@pytest.fixture
def table(db: None) -> str:
    """A watched table with the rows 1a, 2b and 3c."""
    sql("CREATE TABLE watched (id integer PRIMARY KEY, name text)")
    sql("INSERT INTO watched VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    watch("watched")
    return "watched"


@contextmanager
def as_role(name: str) -> Iterator[None]:
    """Write as somebody else."""
    sql(f"SET LOCAL ROLE {name}")
    yield
    sql("RESET ROLE")


@contextmanager
def undone() -> Iterator[None]:
    """Roll back what the block does, to the savepoint if there is a transaction."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


# --- Every way to write ---------------------------------------------------------------------------

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
        "UPDATE watched SET name = other.name FROM watched AS other WHERE other.id = watched.id % 3 + 1",
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


@pytest.mark.parametrize(("statement", "expected"), STATEMENTS.values(), ids=STATEMENTS.keys())
def test_a_statement(table: str, statement: str, expected: list[str]) -> None:
    """P26: each row that was written is told once, old with new; no row, nothing."""
    if statement.startswith("MERGE") and connection.pg_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    sql(statement)
    assert sorted(changes()) == sorted(expected)


def test_rows_come_in_the_order_they_were_written(table: str) -> None:
    """P16: by id, in the order of the statement."""
    sql("INSERT INTO watched SELECT n, 'x' FROM generate_series(1000, 101, -1) AS n")
    assert changes() == [f"->{n}x" for n in range(1000, 100, -1)]


def test_copy(table: str) -> None:
    """COPY is one statement like any other."""
    with connection.cursor() as cursor:
        cursor.copy_expert("COPY watched FROM STDIN", io.StringIO("4\td\n5\te\n"))
    assert changes() == ["->4d", "->5e"]


def test_what_a_before_trigger_made_of_it(table: str) -> None:
    """What travels is what is in the table."""
    sql(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.name := upper(NEW.name); RETURN NEW; END'"
    )
    sql("CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION shout()")  # fmt: skip
    sql("INSERT INTO watched VALUES (4, 'd')")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    assert changes() == ["->4D", "1a->1Z"]


def test_cascades(table: str) -> None:
    """Rows that foreign keys delete, update and empty are told as well, old with new."""
    sql(
        "CREATE TABLE child (id integer, watched_id integer REFERENCES watched "
        "ON DELETE CASCADE ON UPDATE CASCADE)"
    )
    sql("INSERT INTO child VALUES (7, 1), (8, 2), (9, 2)")
    watch("child", channel="child")
    sql("UPDATE watched SET id = id + 10")
    assert sorted(changes()) == ["1a->11a", "2b->12b", "3c->13c", "71->711", "82->812", "92->912"]
    sql("DELETE FROM watched WHERE id > 11")
    assert sorted(changes()) == ["12b->", "13c->", "812->", "912->"]


def test_rows_that_do_not_pair_are_sent_apart(table: str) -> None:
    """Were there ever more old rows than new ones, none is paired with a row that is not its own."""
    body = sql("SELECT pg_get_functiondef('\"pgpubsub_channel_watched\"'::regproc)")[0][0]
    assert "<> (SELECT count(*) FROM pgpubsub_new)" in body
    sql(body.replace("<> (SELECT count(*) FROM pgpubsub_new)", "<> -1"))
    sql("UPDATE watched SET name = 'z' WHERE id < 3")
    assert sorted(changes()) == ["->1z", "->2z", "1a->", "2b->"]


def test_the_orm(db: None) -> None:
    """A model's own ways to be written."""
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


def test_somebody_elses_model(db: None) -> None:
    """P24: a trigger on ``auth.User`` sees what Django's own code writes."""
    User.objects.create_user("ann")
    (payload,) = taken()
    assert payload["new"]["username"] == "ann"


def test_the_payload(table: str) -> None:
    """What stands on the wire."""
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


# --- How often it rings ---------------------------------------------------------------------------


class Bell:
    """A session that listens."""

    def __init__(self, *channels: str) -> None:
        self._connection = psycopg2.connect(dbname=connection.settings_dict["NAME"])
        self._connection.autocommit = True
        self._execute(
            *(f'LISTEN "{channel.replace(chr(34), 2 * chr(34))}"' for channel in channels)
        )

    def rung(self) -> list[tuple[str, str]]:
        """Return what was heard since the last time: a message of our own ends the waiting."""
        end = str(uuid.uuid4())
        self._execute("LISTEN the_end", f"NOTIFY the_end, '{end}'")
        eventually(lambda: self._heard() and self._connection.notifies[-1].payload == end)
        heard = [(one.channel, one.payload) for one in self._connection.notifies]
        self._connection.notifies.clear()
        return [one for one in heard if one[0] != "the_end"]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _execute(self, *statements: str) -> None:
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def _heard(self) -> list[Any]:
        self._connection.poll()
        heard: list[Any] = self._connection.notifies
        return heard


ITEMS, NEWS = "app.ItemChannel", 'item "news" äöü'


@pytest.fixture
def bell(transactional_db: None) -> Iterator[Bell]:
    bell = Bell(ITEMS, NEWS)
    yield bell
    bell.close()


def items(*numbers: int) -> list[Item]:
    return [Item(name=f"number {number}", number=number) for number in numbers]


@pytest.mark.parametrize(
    ("statement", "rings"),
    [
        ("INSERT INTO watched SELECT n, 'x' FROM generate_series(100, 1099) AS n", 1),
        ("UPDATE watched SET name = 'z'", 1),
        ("DELETE FROM watched", 1),
        ("INSERT INTO watched VALUES (1, 'z'), (4, 'd') ON CONFLICT (id) DO UPDATE SET name = 'y'", 2),
        ("UPDATE watched SET name = 'z' WHERE false", 0),
    ],
)  # fmt: skip
def test_a_statement_calls_the_ring_helper_once(table: str, statement: str, rings: int) -> None:
    """P26: PostgreSQL would hide equal rings of a transaction, so the calls are counted."""
    sql("CREATE TABLE calls (channel text)")
    sql(
        "CREATE OR REPLACE FUNCTION pgpubsub_ring(channel text) RETURNS void LANGUAGE sql "
        "AS 'INSERT INTO public.calls VALUES (channel)'"
    )
    sql(statement)
    assert sql("SELECT * FROM calls") == [("watched",)] * rings


def test_a_statement_is_told_once(bell: Bell) -> None:
    """P26, P13: 1000 rows, 1000 stored, one ring that carries no data; one NOTIFY a row where
    nothing is stored."""
    Item.objects.bulk_create(items(*range(1000)))
    heard = bell.rung()
    assert [one for one in heard if one[0] == ITEMS] == [(ITEMS, "")]
    assert [json.loads(payload)["new"]["number"] for name, payload in heard if name == NEWS] == [
        *range(1000)
    ]
    assert Notification.objects.count() == 1000


def test_no_row_rings_nothing(bell: Bell) -> None:
    """P26: a statement that wrote nothing is not told."""
    Item.objects.filter(number=-1).update(name="x")
    Item.objects.filter(number=-1).delete()
    sql("INSERT INTO app_item SELECT * FROM app_item")
    assert bell.rung() == []
    assert not Notification.objects.exists()


def test_equal_rows_are_told_apart(bell: Bell) -> None:
    """P7: PostgreSQL drops identical messages of one transaction, and these are not identical."""
    Item.objects.bulk_create(items(1))
    bell.rung()
    with transaction.atomic():
        for _ in range(3):
            Item.objects.update(number=1)
    assert len([one for one in bell.rung() if one[0] == NEWS]) == 3


def test_what_is_rolled_back_leaves_nothing(bell: Bell) -> None:
    """Neither a stored row nor a ring, and neither an ephemeral message."""
    with undone():
        Item.objects.bulk_create(items(1, 2))
    assert bell.rung() == []
    assert not Notification.objects.exists()

    with transaction.atomic():
        with undone():
            Item.objects.bulk_create(items(1, 2))
        Item.objects.bulk_create(items(3))
    names = [name for name, _ in bell.rung()]
    assert sorted(names) == [ITEMS, NEWS]
    assert [one.payload["new"]["number"] for one in Notification.objects.all()] == [3]


def test_a_failed_statement_leaves_nothing(bell: Bell) -> None:
    """The write and its notification succeed and fail together."""
    Item.objects.bulk_create(items(1))
    bell.rung()
    with pytest.raises(DatabaseError), transaction.atomic():
        sql("UPDATE app_item SET number = 1 / (number - 1)")
    assert bell.rung() == []


@pytest.mark.parametrize("letter", ["x", "ä", "名", "\\", '"'])
def test_a_row_that_is_too_long_for_a_notify(bell: Bell, letter: str) -> None:
    """P13: the write succeeds, and the row is stored and referred to."""
    name = letter * 8000
    Item.objects.create(name=name, number=7)
    (message,) = [json.loads(payload) for channel, payload in bell.rung() if channel == NEWS]
    stored = LongPayload.objects.get()
    assert message["$ref"] == stored.pk
    assert stored.payload["op"] == "INSERT"
    assert stored.payload["new"]["name"] == name


def test_rows_around_the_limit(bell: Bell) -> None:
    """P13: bytes count, not letters; whatever the length, it arrives one way or the other."""
    Item.objects.bulk_create([Item(name="ü" * length) for length in range(3800, 3950)])
    messages = [json.loads(payload) for channel, payload in bell.rung() if channel == NEWS]
    referred = [message["$ref"] for message in messages if "$ref" in message]
    whole = [message for message in messages if "new" in message]
    assert len(messages) == 150
    assert len(whole) > 20
    assert len(referred) > 20
    assert sorted(referred) == sorted(LongPayload.objects.values_list("pk", flat=True))


# --- Every kind of writer -------------------------------------------------------------------------


@pytest.fixture
def writer(table: str) -> str:
    """A role that may write to the watched table, and to nothing else."""
    sql("CREATE ROLE writer")
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON watched TO writer")
    return "writer"


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_role_without_rights_on_our_tables(writer: str, durable: bool) -> None:
    """P14: it writes as ever, also what is too long for a NOTIFY, and cannot read what is stored."""
    watch("watched", durable=durable)
    with as_role(writer):
        sql("INSERT INTO watched VALUES (4, repeat('d', 9000))")
        sql("UPDATE watched SET name = 'z' WHERE id = 1")
        sql("DELETE FROM watched WHERE id = 4")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            sql("SELECT * FROM pgpubsub_sql_notification")
    assert len(taken()) == (3 if durable else 0)
    assert LongPayload.objects.count() == (0 if durable else 2)


def test_nobody_speaks_on_a_channel_through_a_table_of_ones_own(writer: str) -> None:
    """P14: the function runs with our rights, so it is not for others to attach."""
    sql("GRANT CREATE ON SCHEMA public TO writer")
    with as_role(writer):
        sql("CREATE TABLE mine (id integer, name text)")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            sql(
                "CREATE TRIGGER forged AFTER INSERT ON mine REFERENCING NEW TABLE AS pgpubsub_new "
                'FOR EACH STATEMENT EXECUTE FUNCTION "pgpubsub_channel_watched"()'
            )


HOSTILE = {
    "an empty search_path": ["SET LOCAL search_path = ''"],
    "another schema first": [
        "CREATE SCHEMA evil",
        "CREATE TABLE evil.pgpubsub_sql_notification (channel text, payload jsonb)",
        "CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'",
        "CREATE FUNCTION evil.jsonb_build_object(VARIADIC text[]) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'",
        "CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''",
        "SET LOCAL search_path = evil, pg_catalog, public",
    ],
    "temporary tables named as ours": [
        "CREATE TEMP TABLE pgpubsub_sql_notification (channel text, payload jsonb)",
        "CREATE TEMP TABLE pgpubsub_new (id integer, name text)",
        "CREATE TEMP TABLE pgpubsub_old (id integer, name text)",
        "SET LOCAL search_path = pg_temp, public",
    ],
    "a temporary table that shadows a catalogue": [
        "CREATE TEMP TABLE pg_settings (name text)",
        "CREATE TYPE pg_temp.jsonb AS (x integer)",
        "SET LOCAL search_path = pg_temp, pg_catalog, public",
    ],
}  # fmt: skip


@pytest.mark.parametrize("preparations", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_search_path(table: str, preparations: list[str]) -> None:
    """P14: what a session puts in the way is not used."""
    for preparation in preparations:
        sql(preparation)
    sql("INSERT INTO public.watched VALUES (4, 'd')")
    sql("UPDATE public.watched SET name = 'z' WHERE id = 1")
    sql("DELETE FROM public.watched WHERE id = 3")
    assert changes() == ["->4d", "1a->1z", "3c->"]


def test_settings_of_the_writer(db: None) -> None:
    """P21, P22: how a session likes its values spelled does not change what travels."""
    sql(
        "CREATE TABLE spelled (a interval, b bytea, c float8, d date, e daterange, f tsrange, g date[])"
    )
    watch("spelled")
    row = (
        "INSERT INTO spelled VALUES ('1 day 02:00', '\\x00ff41', 0.1::float8 + 0.2, '2026-01-31',"
        "'[2026-01-31,2026-02-01)', '[2026-01-31 10:00,)', '{2026-01-31}')"
    )
    sql(row)
    sql("SET LOCAL datestyle = German")
    sql("SET LOCAL intervalstyle = iso_8601")
    sql("SET LOCAL bytea_output = 'escape'")
    sql("SET LOCAL extra_float_digits = -15")
    sql(row)
    one, other = (payload["new"] for payload in taken())
    assert one == other
    assert one == {
        "a": "1 day 02:00:00",
        "b": "\\x00ff41",
        "c": 0.30000000000000004,
        "d": "2026-01-31",
        "e": "[2026-01-31,2026-02-01)",
        "f": '["2026-01-31 10:00:00",)',
        "g": ["2026-01-31"],
    }


BROKEN = ["{", "[1]", "null", '"x"', "7", "", '{"a": "\\u0000"}', "[" * 100_000, "{'a': 1}", "\x01"]


@pytest.mark.parametrize("setting", BROKEN, ids=lambda setting: setting[:10])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_broken_context_never_fails_a_write(table: str, setting: str, durable: bool) -> None:
    """P23: what is no JSON object counts as none."""
    watch("watched", durable=durable)
    sql("SELECT set_config('pgpubsub.notification_context', %s, true)", setting)
    sql("INSERT INTO watched VALUES (4, 'd')")
    assert [payload["context"] for payload in taken()] == [{}] * durable


# --- Every kind of table --------------------------------------------------------------------------

COLUMNS = [
    *("id", "context", "pairing", "old", "new", "position", "changed", "n", "o", "tg_op", "op"),
    *("channel", "payload", "before", "after", "found", "channel_function", "pgpubsub_old"),
    *("pgpubsub_new", "pgpubsub_sql_notification", "notification", "TG_WHEN", "row_number", "when"),
]


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_columns_named_as_our_variables(db: None, durable: bool) -> None:
    """T8: the names of a table's columns are its own affair."""
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


TABLE_NAMES = ["100% %s %(x)s", "o", "n", "changed", "pgpubsub_old", "pgpubsub_new", 'dou""ble']


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_tables_named_as_our_aliases(db: None, name: str) -> None:
    """T8: and so is the name of the table; a percent sign is nobody's parameter."""
    sql(f'CREATE TABLE "{name}" (id integer, name text)')
    watch(name)
    sql(f"INSERT INTO \"{name}\" VALUES (1, 'a')")
    sql(f"UPDATE \"{name}\" SET name = 'z'")
    sql(f'DELETE FROM "{name}"')
    assert changes() == ["->1a", "1a->1z", "1z->"]


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_table_that_changes_within_a_session(table: str, durable: bool) -> None:
    """T3: the trigger names no column, so any may come, change and go, and every write succeeds."""
    watch("watched", durable=durable)
    for change in (
        "SELECT 1",
        "ALTER TABLE watched ADD COLUMN age integer DEFAULT 7",
        "ALTER TABLE watched ALTER COLUMN age TYPE text",
        "ALTER TABLE watched RENAME COLUMN name TO title",
        "ALTER TABLE watched DROP COLUMN title",
        "ALTER TABLE watched RENAME TO renamed",
        "CREATE SCHEMA moved; ALTER TABLE renamed SET SCHEMA moved; SET LOCAL search_path = moved, public",
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
    """P4: each has its own function, and neither is in the other's way."""
    watch("watched", "update", channel="second")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    rows = sql("SELECT channel FROM pgpubsub_sql_notification ORDER BY channel")
    assert rows == [("second",), ("watched",)]


def test_a_trigger_in_a_writable_view_and_a_function(table: str) -> None:
    """Whatever the detour, the table is what counts."""
    sql("CREATE VIEW seen AS SELECT * FROM watched")
    sql(
        "CREATE FUNCTION add() RETURNS void LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO seen VALUES (4, 'd'); UPDATE seen SET name = 'z' WHERE id = 4; END$$"
    )
    sql("SELECT add()")
    assert changes() == ["->4d", "4d->4z"]


def test_a_constraint_that_waits(table: str) -> None:
    """A deferred constraint keeps no trigger from working, nor the table from being changed."""
    sql("CREATE TABLE child (watched_id integer REFERENCES watched DEFERRABLE INITIALLY DEFERRED)")
    watch("child", channel="child")
    sql("INSERT INTO child VALUES (1)")
    watch("child", channel="child")
    assert changes() == ["->1"]


def test_prepared_statements(table: str) -> None:
    """One plan, run again and again, while the function behind it is replaced."""
    sql("PREPARE one AS UPDATE watched SET name = $1 WHERE id = $2")
    for round_ in range(8):
        sql(f"EXECUTE one('{round_}', 1)")
        if round_ == 4:
            watch("watched", durable=False)
        if round_ == 5:
            watch("watched")
    sql("DEALLOCATE one")
    assert changes() == ["1a->10", "10->11", "11->12", "12->13", "13->14", "15->16", "16->17"]


def test_nothing_takes_a_subtransaction(table: str) -> None:
    """P26: no EXCEPTION block stands around a write: each would take an id of its own."""
    sql("INSERT INTO watched VALUES (4, 'd')")
    (own,) = sql("SELECT txid_current()")
    rows = sql("SELECT DISTINCT xmin::text FROM pgpubsub_sql_notification")
    assert rows == [(str(own[0] % 2**32),)]
