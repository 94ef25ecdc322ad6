"""Conditions that PostgreSQL plans but rejects for every row."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.utils import NotSupportedError

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops import watched_tables
from pgpubsub_sql.migrations_ops.watched_tables import check_columns, find_target
from pgpubsub_sql.sql import SQL
from pgpubsub_sql.sql.sqlstates import is_lost
from pgpubsub_sql.sql.trigger import Trigger
from tests.triggers.tables import as_role, sql

FOLDED = """
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
ALTER TABLE watched ALTER COLUMN folded TYPE text COLLATE folded;
"""
TABLE = """
CREATE DOMAIN code AS text CHECK (value ~ '^[A-Z]{3}$');
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION refuses(text) RETURNS boolean LANGUAGE plpgsql STRICT
AS $$ BEGIN RAISE 'never' USING ERRCODE = 'feature_not_supported'; END $$;
CREATE FUNCTION allowed(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE watched (
    id integer, name text, folded text, status varchar(9), code code, mood mood,
    at timestamptz, number numeric, tags text[], data jsonb, token uuid, flag boolean
);
CREATE ROLE migrator;
GRANT SELECT ON watched TO migrator;
GRANT CREATE, USAGE ON SCHEMA public TO migrator;
REVOKE EXECUTE ON FUNCTION allowed FROM PUBLIC;
"""


@pytest.fixture(autouse=True)
def _watched(db: None) -> None:
    sql(TABLE)


def fold() -> None:
    """Give a column a nondeterministic collation."""
    try:
        with transaction.atomic():
            sql(FOLDED)
    except NotSupportedError:
        pytest.skip("this server was built without ICU")


def refusal(condition: str) -> str:
    """Return why ``migrate`` refuses a channel with this *condition*; empty if it does not."""
    trigger = Trigger(channel="watched", model="app.any", condition=f"({condition})")
    names = {"schema": "public", "helpers": "public", "app": "tests"}
    try:
        check_columns(connection, trigger, find_target(connection, trigger, "watched", **names))
    except NotReady as error:
        return str(error)
    return ""


ALWAYS: dict[str, tuple[str, str]] = {
    "a nondeterministic collation": (""""new"."folded" ~ '^Z'""", "nondeterministic"),
    "behind a condition": (
        """"new"."status" = 'published' AND "old"."folded" ~ 'Z'""",
        "nondeterministic",
    ),
    "behind another way": (
        """"new"."status" = 'published' OR NOT ("new"."folded" ~ 'Z')""",
        "nondeterministic",
    ),
    "a pattern": (""""new"."name" ~ '('""", "invalid regular expression"),
    "a pattern for a number": (""""new"."number"::text ~ '['""", "invalid regular expression"),
    "a pattern for a key": (
        """("new"."data" ->> 'a') ~ '('""",
        "",  # there is no such key in the rows that are made
    ),
    "an escape": (""""new"."name" LIKE '%\\'""", "LIKE pattern"),
    "a time zone": (
        """("new"."at" AT TIME ZONE 'Nowhere/None') > '2000-01-01'""",
        "not recognized",
    ),
    "a function": ("""public.refuses("new"."name")""", "never"),
}


@pytest.mark.parametrize(("condition", "reason"), ALWAYS.values(), ids=ALWAYS.keys())
@pytest.mark.parametrize("rows", [False, True], ids=["empty", "with rows"])
def test_a_condition_that_fails_for_every_row_fails_the_migration(
    condition: str, reason: str, rows: bool
) -> None:
    """F19: the migration says so, instead of every later message being stale."""
    if "folded" in condition:
        fold()
    if rows:
        sql("INSERT INTO watched (id) VALUES (1)")
        sql(
            "INSERT INTO watched (id, name, folded, status, number, at, data) "
            "VALUES (2, 'abc', 'abc', 'published', 1, now(), '{\"a\": \"b\"}')"
        )
        reason = reason or "invalid regular expression"
    said = refusal(condition)
    assert reason in said
    if reason:
        assert "The trigger of channel 'watched' cannot be installed on public.watched" in said
        assert f"its condition ({condition}) fails on every row that was tried" in said
        assert "Change the channel's columns, watch or condition" in said


def test_a_condition_that_calls_a_forbidden_function_fails_the_migration() -> None:
    """F19: the role that the trigger runs as may not call it."""
    assert refusal("""public.allowed("new"."name")""") == ""
    with as_role("migrator"):
        assert "permission denied for function allowed" in refusal(
            """public.allowed("new"."name")"""
        )


@pytest.mark.parametrize(
    "condition",
    [
        """"new"."name" LIKE 'Z%'""",
        """("new"."name")::integer > 1""",
        """("new"."name")::date > '2000-01-01'""",
        """("new"."name")::uuid = "new"."token\"""",
        """("new"."name")::jsonb @> '{}'""",
        """("new"."name")::numeric / ("old"."number" - 1) > 1""",
        """"new"."code" ~ '^A'""",
        """("new"."name")::public.mood = "new"."mood\"""",
        """'x' = ANY("new"."tags")""",
        """'"new"."nothing"' = "new"."name\"""",
        """"new"."flag" AND "new"."status" = 'much too long for it'""",
    ],
)
def test_a_condition_that_fails_for_some_rows_is_installed(condition: str) -> None:
    """F19: it depends on the data; rows for which it fails are sent as stale."""
    assert refusal(condition) == ""


def test_rows_of_the_table_decide() -> None:
    """F19: a cast that fails for every row of the table would make all of them stale."""
    number = """("new"."name")::integer > 1"""
    sql("INSERT INTO watched (name) SELECT 'text' FROM generate_series(1, 30)")
    assert 'invalid input syntax for type integer: "text"' in refusal(number)
    sql("TRUNCATE watched")
    sql("INSERT INTO watched (name) VALUES (NULL), ('text'), ('7')")
    assert refusal(number) == ""


def test_made_up_rows_decide_if_the_table_cannot_be_read() -> None:
    """F19."""
    sql("INSERT INTO watched (name) VALUES ('text')")
    sql("REVOKE SELECT ON watched FROM migrator")
    with as_role("migrator"):
        assert refusal("""("new"."name")::integer > 1""") == ""
        assert "invalid regular expression" in refusal(""""new"."name" ~ '('""")


def test_the_probe_leaves_no_trace() -> None:
    """F19: neither in the session nor in the table."""
    settings = "SELECT current_setting('search_path'), current_setting('lock_timeout')"
    before = sql(settings)
    refusal(""""new"."name" ~ '('""")
    assert refusal(""""new"."name" = 'a'""") == ""
    assert sql(settings) == before


def test_a_lost_connection_is_no_refusal(db: None) -> None:
    """A worker that started while the server crashed called the channel stale."""
    other = connection.copy()
    statement = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(DatabaseError):
        watched_tables._unplanned(other, statement, SQL("public"))
    other.close()


def test_options_without_a_condition_are_not_tried_on_rows() -> None:
    trigger = Trigger(channel="watched", model="app.any", columns=("name",))
    names = {"schema": "public", "helpers": "public", "app": "tests"}
    check_columns(connection, trigger, find_target(connection, trigger, "watched", **names))


def test_an_error_of_the_driver_alone_is_no_lost_connection() -> None:
    with connection.cursor() as cursor, pytest.raises(DatabaseError) as caught:
        cursor.fetchall()
    assert not is_lost(caught.value)
