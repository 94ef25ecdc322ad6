"""Every kind of writer: roles, search paths, settings."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.db.utils import ProgrammingError

from pgpubsub_sql.models import LongPayload
from tests.triggers.tables import as_role, changes, sql, taken, watch


@pytest.fixture
def writer(table: str) -> str:
    """A role that may write to the watched table, and to nothing else."""
    sql("CREATE ROLE writer")
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON watched TO writer")
    return "writer"


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_role_without_rights_on_our_tables(writer: str, durable: bool) -> None:
    """P14: it writes as ever, also what is too long for a NOTIFY, and cannot read ours."""
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
        "CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb "
        "LANGUAGE sql AS 'SELECT NULL::jsonb'",
        "CREATE FUNCTION evil.jsonb_build_object(VARIADIC text[]) RETURNS jsonb "
        "LANGUAGE sql AS 'SELECT NULL::jsonb'",
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


def test_the_zone_is_that_of_the_specification(db: None) -> None:
    """In which a condition without USE_TZ means what the project's own queries mean."""
    sql("CREATE TABLE spelled (h timestamptz)")
    watch("spelled", timezone="America/New_York")
    sql("SET LOCAL timezone = 'Asia/Tokyo'")
    sql("INSERT INTO spelled VALUES ('2026-01-31 10:00+01')")
    assert [payload["new"] for payload in taken()] == [{"h": "2026-01-31T04:00:00-05:00"}]


BROKEN = ["{", "[1]", "null", '"x"', "7", "", '{"a": "\\u0000"}', "[" * 100_000, "{'a': 1}", "\x01"]


@pytest.mark.parametrize("setting", BROKEN, ids=lambda setting: setting[:10])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "ephemeral"])
def test_a_broken_context_never_fails_a_write(table: str, setting: str, durable: bool) -> None:
    """P23: what is no JSON object counts as none."""
    watch("watched", durable=durable)
    sql("SELECT set_config('pgpubsub.notification_context', %s, true)", setting)
    sql("INSERT INTO watched VALUES (4, 'd')")
    assert [payload["context"] for payload in taken()] == [{}] * durable
