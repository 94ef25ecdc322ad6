"""Sending with SQL: ``pgpubsub_notify()``, who may call our functions, and their search_path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.backends.utils import CursorWrapper

from pgpubsub_sql import Notification
from pgpubsub_sql.worker.doorbell import Notify
from tests.registries import Ear, blank, undone  # noqa: F401 - a fixture

HELPERS = {
    "pgpubsub_context_v1()",
    "pgpubsub_ignored_v1(text)",
    "pgpubsub_key_v1(jsonb)",
    "pgpubsub_bucket_v1(text)",
    "pgpubsub_is_notified(text)",
    "pgpubsub_must_notify(text)",
    "pgpubsub_store_v1(text,jsonb,timestamp with time zone,timestamp with time zone,jsonb)",
    "pgpubsub_notify(text,jsonb)",
    "pgpubsub_send_v1(text,jsonb)",
    "pgpubsub_publish_v1(text,jsonb)",
    "pgpubsub_notify_many_v1(text[],jsonb[],boolean[],jsonb[])",
}


def execute(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall()) if cursor.description else []


def stored() -> list[tuple[str, Any]]:
    return list(Notification.objects.values_list("channel", "payload"))


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expect PostgreSQL to refuse, with these words in its message, and go on after it."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        yield
    for word in words:
        assert word in str(caught.value)


# pgpubsub_notify, for people who write SQL.


def test_pgpubsub_notify_stores_and_notifies(transactional_db: None) -> None:
    with Ear("any.Channel") as ear:
        ((number,),) = execute("SELECT pgpubsub_notify('any.Channel', '{\"a\": 1.50}')")
        execute("SELECT pgpubsub_notify(channel => 'any.Channel', payload => '{}')")
        assert ear.notifies() == [Notify("any.Channel", ""), Notify("any.Channel", "")]
    assert stored() == [("any.Channel", {"a": 1.5}), ("any.Channel", {})]
    assert Notification.objects.first().pk == number


@pytest.mark.parametrize(
    ("channel", "payload", "words"),
    [
        (None, "{}", ["NULL cannot be the name of a channel", "1 to 63 bytes"]),
        ("", "{}", ["'' cannot be the name"]),
        ("ä" * 32, "{}", ["cannot be the name", "1 to 63 bytes"]),
        ("a'b", None, ["the payload of channel 'a''b' is not a JSON object", "HINT:"]),
        ("a", "null", ["is not a JSON object", "Send an object of the channel's fields."]),
        ("a", "[1]", ["is not a JSON object"]),
        ("a", '"{}"', ["is not a JSON object"]),
        ("a", "{", ["invalid input syntax for type json"]),
    ],
)
@pytest.mark.django_db
def test_pgpubsub_notify_refuses_invalid_arguments(
    channel: Any, payload: Any, words: list[str]
) -> None:
    with refused(*words):
        execute("SELECT pgpubsub_notify(%s, %s::jsonb)", channel, payload)
    assert stored() == []


# Grants and search_path.


def our_functions(column: str, condition: str = "true") -> list[tuple[str, Any]]:
    named = f"pg_proc WHERE proname ~ '^pgpubsub_' AND {condition}"
    found = execute(f"SELECT oid::regprocedure, {column} FROM {named}")
    return [(str(name), value) for name, value in found]


@pytest.mark.django_db
def test_every_helper_function_is_installed() -> None:
    assert {name for name, _ in our_functions("NULL")} >= HELPERS


@pytest.mark.django_db
def test_no_other_role_may_call_our_functions() -> None:
    """P13 and P14: who may send is for the owner to say. Helpers and functions of channels."""
    allowed = "has_function_privilege('public', oid, 'EXECUTE')"
    assert [name for name, is_allowed in our_functions(allowed) if is_allowed] == []


@pytest.mark.django_db
def test_every_function_pins_its_search_path() -> None:
    """P14: what a caller puts into search_path must not become part of them."""
    for name, settings in our_functions("proconfig", "prolang <> 14"):
        assert "search_path=pg_catalog, pg_temp" in (settings or []), name


@pytest.mark.django_db
def test_functions_in_sql_qualify_every_name() -> None:
    """P14: it has no setting, which would keep it from being inlined; and it is inlined."""
    assert [name for name, _ in our_functions("NULL", "prolang = 14")] == [
        "pgpubsub_bucket_v1(text)",
        "pgpubsub_is_notified(text)",
        "pgpubsub_key_v1(jsonb)",
        "pgpubsub_must_notify(text)",
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT public.pgpubsub_key_v1(to_jsonb(array[repeat('x', 2000)]))")
        before = cursor.fetchone()
        cursor.execute(
            "EXPLAIN (VERBOSE) SELECT public.pgpubsub_key_v1(to_jsonb(number)) "
            "FROM generate_series(1, 2) AS number"
        )
        assert not [line for (line,) in cursor.fetchall() if "pgpubsub_key_v1" in line]
        cursor.execute(
            "CREATE SCHEMA evil;"
            "CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::bytea';"
            "CREATE FUNCTION evil.cat(text, text) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';"
            "CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.cat);"
            "SET LOCAL search_path = evil, pg_catalog"
        )
        cursor.execute("SELECT public.pgpubsub_key_v1(to_jsonb(array[repeat('x', 2000)]))")
        assert cursor.fetchone() == before


@contextmanager
def restricted_role() -> Iterator[CursorWrapper]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE ROLE restricted")
        cursor.execute("SET LOCAL ROLE restricted")
        yield cursor
        cursor.execute("RESET ROLE")
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_a_restricted_role_needs_only_pgpubsub_notify() -> None:
    """P14"""
    with restricted_role() as cursor:
        with refused("permission denied for function pgpubsub_notify"):
            cursor.execute("SELECT pgpubsub_notify('a', '{}')")
        cursor.execute("RESET ROLE")
        cursor.execute("GRANT EXECUTE ON FUNCTION pgpubsub_notify(text, jsonb) TO restricted")
        cursor.execute("SET LOCAL ROLE restricted")
        cursor.execute("SELECT pgpubsub_notify('a', '{}')")
        for table in ("pgpubsub_sql_notification", "pgpubsub_sql_longpayload"):
            with refused("permission denied for table"):
                cursor.execute(f"SELECT * FROM {table}")
        for function in ("pgpubsub_send_v1('a', '{}')", "pgpubsub_must_notify('a')"):
            with refused("permission denied for function"):
                cursor.execute(f"SELECT {function}")
        cursor.execute("RESET ROLE")
        assert stored() == [("a", {})]


HOSTILE_SCHEMA = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.evil(text, text) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'taken in'; END $$;
CREATE OPERATOR hostile.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.evil);
CREATE FUNCTION hostile.pg_notify(text, text) RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'taken in'; END $$;
CREATE FUNCTION hostile.pgpubsub_must_notify(text) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'taken in'; END $$;
CREATE FUNCTION hostile.jsonb_typeof(jsonb) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'taken in'; END $$;
CREATE TABLE hostile.pgpubsub_sql_notification ();
CREATE TEMP TABLE pgpubsub_sql_notification (channel text, payload text);
CREATE TEMP TABLE pgpubsub_sql_longpayload (payload text);
"""


@pytest.mark.parametrize(
    "search_path", ["", "hostile, pg_catalog, public", "pg_temp, hostile, pg_catalog"]
)
@pytest.mark.django_db
def test_functions_work_under_any_search_path(search_path: str) -> None:
    """P14: empty as after pg_dump, or one that means harm; and temporary tables named like ours."""
    execute(HOSTILE_SCHEMA)
    execute("SELECT set_config('search_path', %s, true)", search_path)
    execute("SET LOCAL pgpubsub.notification_context = '{\"a\": 1}'")
    execute("SELECT public.pgpubsub_notify('a', '{}')")
    execute("SELECT public.pgpubsub_publish_v1('a', jsonb_build_object('x', repeat('x', 9000)))")
    execute("SELECT public.pgpubsub_notify_many_v1('{a}', ARRAY[jsonb '{}'], '{true}', '{NULL}')")
    execute("SET LOCAL search_path = public")
    assert execute("SELECT channel, payload FROM public.pgpubsub_sql_notification") == [
        *[("a", '{"$context": {"a": 1}}')] * 2
    ]
    assert execute("SELECT count(*) FROM public.pgpubsub_sql_longpayload") == [(1,)]
