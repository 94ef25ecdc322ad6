"""Every kind of writer: roles, search paths, settings."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import ProgrammingError

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.models import LongPayload, Notification
from pgpubsub_sql.sql import SQL, render
from pgpubsub_sql.sql.ddl import create
from pgpubsub_sql.sql.trigger import Trigger
from tests.app.models import Item
from tests.triggers.tables import ALL, as_role, change, changes, sql, taken, watch


@pytest.fixture
def writer(table: str) -> str:
    """A role that may write to the watched table, and to nothing else."""
    sql("CREATE ROLE writer")
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON watched TO writer")
    return "writer"


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_role_without_privileges_on_our_tables_can_write(writer: str, durable: bool) -> None:
    """P14: also rows that are too long for a NOTIFY; it cannot read our tables."""
    watch("watched", durable=durable)
    with as_role(writer):
        sql("INSERT INTO watched VALUES (4, repeat('d', 9000))")
        sql("UPDATE watched SET name = 'z' WHERE id = 1")
        sql("DELETE FROM watched WHERE id = 4")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            sql("SELECT * FROM pgpubsub_sql_notification")
    assert len(taken()) == (3 if durable else 0)
    assert LongPayload.objects.count() == (0 if durable else 2)


def test_no_role_can_send_through_a_table_of_its_own(writer: str) -> None:
    """P14: the function runs with its owner's rights, so others must not attach it."""
    sql("GRANT CREATE ON SCHEMA public TO writer")
    with as_role(writer):
        sql("CREATE TABLE mine (id integer, name text)")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            sql(
                "CREATE TRIGGER forged AFTER INSERT ON mine REFERENCING NEW TABLE AS pgpubsub_new "
                'FOR EACH STATEMENT EXECUTE FUNCTION "pgpubsub_channel_watched"()'
            )


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_role_without_usage_on_our_schema_can_write(writer: str, durable: bool) -> None:
    """P14: as if each application has a schema, and PUBLIC has none on the schema public."""
    sql("CREATE SCHEMA apart")
    sql("ALTER TABLE watched SET SCHEMA apart")
    watch('"apart"."watched"', durable=durable, condition='("new"."name" > \'a\')', columns=("id",))
    sql("GRANT USAGE ON SCHEMA apart TO writer")
    sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with as_role(writer):
        sql("INSERT INTO apart.watched VALUES (4, 'd'), (5, 'A')")
    assert changes() == ["->4"] * durable


HOSTILE = {
    "an empty search_path": ["SET LOCAL search_path = ''"],
    "another schema first": [
        "CREATE SCHEMA evil",
        "CREATE TABLE evil.pgpubsub_sql_notification (channel text, payload jsonb)",
        "CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb "
        "LANGUAGE sql AS 'SELECT NULL::jsonb'",
        "CREATE FUNCTION evil.jsonb_build_object(VARIADIC text[]) RETURNS jsonb "
        "LANGUAGE sql AS 'SELECT NULL::jsonb'",
        "CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''",
        "CREATE FUNCTION evil.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
        "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.never)",
        "SET LOCAL search_path = evil, pg_catalog, public",
    ],
    "temporary helpers named as ours": [
        "CREATE FUNCTION pg_temp.pgpubsub_context_v1() RETURNS jsonb "
        "LANGUAGE plpgsql AS $$BEGIN RAISE 'harm'; END$$",
        "CREATE FUNCTION pg_temp.pgpubsub_must_notify(text) RETURNS boolean "
        "LANGUAGE plpgsql AS $$BEGIN RAISE 'harm'; END$$",
        "SET LOCAL search_path = pg_temp, public",
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


OPTIONS: dict[str, dict[str, Any]] = {
    "no options": {},
    "options": {
        "columns": ("id", "name"),
        "watch": ("name",),
        "condition": """("new"."name" = 'd' OR "new"."name" = 'z' OR "old"."name" = 'c')""",
        "ordering_key": ("id",),
    },
}


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("preparations", HOSTILE.values(), ids=HOSTILE.keys())
def test_objects_on_a_hostile_search_path_are_not_used(
    table: str, preparations: list[str], options: dict[str, Any], level: str
) -> None:
    """P14."""
    watch(table, level=level, **options)
    for preparation in preparations:
        sql(preparation)
    sql("INSERT INTO public.watched VALUES (4, 'd')")
    sql("UPDATE public.watched SET name = 'z' WHERE id = 1")
    sql("DELETE FROM public.watched WHERE id = 3")
    told = taken()
    assert not any("$stale" in payload for payload in told)
    assert [change(payload) for payload in told] == ["->4d", "1a->1z", "3c->"]


def test_settings_of_the_writer_do_not_change_the_payload(db: None) -> None:
    """P21, P22: such as those for the spelling of dates and intervals."""
    sql(
        "CREATE TABLE spelled "
        "(a interval, b bytea, c float8, d date, e daterange, f tsrange, g date[], h timestamptz)"
    )
    watch("spelled")
    row = (
        "INSERT INTO spelled VALUES ('1 day 02:00', '\\x00ff41', 0.1::float8 + 0.2, '2026-01-31',"
        "'[2026-01-31,2026-02-01)', '[2026-01-31 10:00,)', '{2026-01-31}', '2026-01-31 10:00+01')"
    )
    sql("SET LOCAL timezone = 'America/New_York'")
    sql(row)
    sql("SET LOCAL timezone = 'Asia/Tokyo'")
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
        "h": "2026-01-31T09:00:00+00:00",
    }


def test_the_function_runs_in_the_time_zone_of_the_specification(db: None) -> None:
    """Without USE_TZ, a condition then means what it means in the project's own queries."""
    sql("CREATE TABLE spelled (h timestamptz)")
    watch("spelled", timezone="America/New_York")
    sql("SET LOCAL timezone = 'Asia/Tokyo'")
    sql("INSERT INTO spelled VALUES ('2026-01-31 10:00+01')")
    assert [payload["new"] for payload in taken()] == [{"h": "2026-01-31T04:00:00-05:00"}]


BROKEN = ["{", "[1]", "null", '"x"', "7", "", '{"a": "\\u0000"}', "[" * 100_000, "{'a': 1}", "\x01"]


@pytest.mark.parametrize("setting", BROKEN, ids=lambda setting: setting[:10])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_broken_context_never_fails_a_write(table: str, setting: str, durable: bool) -> None:
    """P23: anything but a JSON object counts as none."""
    watch("watched", durable=durable)
    sql("SELECT set_config('pgpubsub.notification_context', %s, true)", setting)
    sql("INSERT INTO watched VALUES (4, 'd')")
    assert [payload["context"] for payload in taken()] == [{}] * durable


# --- Several schemas ------------------------------------------------------------------------------


def test_a_channel_in_each_tenants_schema(db: None) -> None:
    """P14, T5: a message is stored in the schema of its row's table."""
    for tenant in ("one", "two"):
        sql(f"CREATE SCHEMA {tenant}")
        sql(
            f"CREATE TABLE {tenant}.pgpubsub_sql_notification "
            "(LIKE public.pgpubsub_sql_notification INCLUDING ALL)"
        )
        sql(render("helpers/create_subscriptions", schema=tenant))
        sql(render("helpers/is_notified", schema=tenant, decision=SQL("true")))
        for helper in ("context_v1", "ignored_v1", "bucket_v1", "must_notify"):
            sql(render(f"helpers/{helper}", schema=tenant))
        sql(f"CREATE TABLE {tenant}.watched (id integer, name text)")
        trigger = Trigger(channel="watched", model="app.any", after=ALL, durable=True)
        names = {"schema": tenant, "helpers": tenant, "app": "tests"}
        target = find_target(connection, trigger, f'"{tenant}"."watched"', **names)
        for statement in create(trigger, target):
            sql(statement)
    sql("SET LOCAL search_path = two, one, public")
    sql("INSERT INTO one.watched VALUES (1, 'a')")
    sql("INSERT INTO watched VALUES (2, 'b')")
    for tenant, name in {"one": "a", "two": "b"}.items():
        found = sql(f"SELECT payload->'new'->>'name' FROM {tenant}.pgpubsub_sql_notification")
        assert found == [(name,)]
    assert taken() == []


# --- Restoring a dump -----------------------------------------------------------------------------


@pytest.mark.parametrize("disabled", [True, False], ids=["disabled", "enabled"])
def test_restoring_data_tells_it_unless_triggers_are_disabled(
    transactional_db: None, server: Server, disabled: bool
) -> None:
    """P14: pg_restore has an empty search_path, and no write fails."""
    program = server.bin_dir / "pg_dump"
    if not program.exists():
        pytest.skip("this server does not bring pg_dump")
    item = Item.objects.create(name="dumped")
    name = connection.settings_dict["NAME"]
    options = ["--data-only", "--table=app_item", *["--disable-triggers"] * disabled]
    dump = subprocess.run(
        [program, *options, name],
        env=os.environ | server.environment(),
        capture_output=True,
        check=True,
    ).stdout
    Item.objects.all().delete()
    Notification.objects.all().delete()
    subprocess.run(
        [server.bin_dir / "psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={name}"],
        env=os.environ | server.environment(),
        input=dump,
        capture_output=True,
        check=True,
    )
    assert Item.objects.get() == item
    told = Notification.objects.filter(channel="app.ItemChannel").count()
    assert told == (0 if disabled else 1)


def test_restoring_everything_tells_nothing(transactional_db: None, server: Server) -> None:
    """P14: later writes are told."""
    program = server.bin_dir / "pg_dump"
    if not program.exists():
        pytest.skip("this server does not bring pg_dump")
    Item.objects.create(name="dumped")
    environment = os.environ | server.environment()
    name = connection.settings_dict["NAME"]
    dump = subprocess.run([program, name], env=environment, capture_output=True, check=True).stdout
    psql = [server.bin_dir / "psql", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1"]

    def run(database: str, statements: bytes) -> bytes:
        command = [*psql, f"--dbname={database}", "--file=-"]
        done = subprocess.run(
            command, env=environment, input=statements, capture_output=True, check=True
        )
        return done.stdout

    run("postgres", b"CREATE DATABASE restored")
    try:
        run("restored", dump)
        count = b"SELECT count(*) FROM pgpubsub_sql_notification WHERE channel = 'app.ItemChannel';"
        insert = b"INSERT INTO app_item (name, number, amount, data) VALUES ('x', 0, 0, '{}');"
        assert run("restored", count + insert + count).split() == [b"1", b"2"]
    finally:
        run("postgres", b"DROP DATABASE restored WITH (FORCE)")
