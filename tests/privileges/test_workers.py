"""Which grant a worker or a command lacks, and how it says so."""

from __future__ import annotations

import io
import re

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.relay.outbox import NEXT
from pgpubsub_sql.sql import query, render
from pgpubsub_sql.sql.own_tables import PUBLISHED_AGAIN
from pgpubsub_sql.sql.readiness import check_ready, check_workable
from pgpubsub_sql.sql.templates import NOTHING
from tests.ledger import sql
from tests.privileges.support import session

pytestmark = pytest.mark.django_db

LISTENER = [
    "GRANT SELECT, INSERT, UPDATE, DELETE ON pgpubsub_sql_notification TO powerless",
    "GRANT SELECT, DELETE ON pgpubsub_sql_longpayload TO powerless",
    "GRANT SELECT ON pgpubsub_sql_secret TO powerless",
    "GRANT SELECT ON pgpubsub_sql_subscription TO powerless",
    "GRANT USAGE ON SEQUENCE pgpubsub_sql_notification_id_seq TO powerless",
    "GRANT EXECUTE ON FUNCTION pgpubsub_key_v1(jsonb) TO powerless",
    "GRANT EXECUTE ON FUNCTION pgpubsub_bucket_v1(text) TO powerless",
]


@pytest.mark.parametrize("left_out", [*range(len(LISTENER)), None])
def test_a_listener_is_told_which_grant_it_lacks(left_out: int | None) -> None:
    """F11: each is needed, together they are enough."""
    sql("GRANT USAGE ON SCHEMA public TO powerless")
    for grant in LISTENER:
        if grant != (left_out is not None and LISTENER[left_out]):
            sql(grant)
    with session("powerless"):
        if left_out is None:
            check_workable(connection)
            return
        with pytest.raises(NotReady, match=r"role 'powerless' lacks .*Have the owner") as refusal:
            check_workable(connection)
    for statement in re.findall(r"GRANT [^;]*", str(refusal.value)):
        sql(statement)
    with session("powerless"):
        check_workable(connection)


def test_a_publisher_of_the_relay_needs_no_more_than_the_page_says() -> None:
    """What ``listen`` needs, and the table of positions."""
    sql("GRANT USAGE ON SCHEMA public TO powerless")
    for grant in LISTENER:
        sql(grant)
    sql("GRANT SELECT, INSERT, UPDATE ON pgpubsub_sql_position TO powerless")
    values = {"channel": "app.Job", "limit": 9, "bytes": 9, "prefix": "", "streams": ["x"]}
    values |= {"stream": "x", "closed": "y"}
    with session("powerless"), connection.cursor() as cursor:
        for name in ("lock_outbox", "outbox_streams", "add_outbox_streams", "close_outbox_stream"):
            cursor.execute(query(name), values)
        cursor.execute(query("this_database"))
        cursor.execute(NEXT, values)
        parked = {"ids": [1], "error": "too large", "again": PUBLISHED_AGAIN}
        cursor.execute(query("park_in_outbox"), parked)
        cursor.execute(render("queries/delete_from_outbox", kept=NOTHING), {"ids": [1]})


@pytest.mark.parametrize("function", ["pg_notify", "pg_try_advisory_lock"])
def test_a_listener_is_told_of_functions_that_are_closed_to_the_public(function: str) -> None:
    """F11: as docs/reference/sql.md advises for locks."""
    sql("GRANT USAGE ON SCHEMA public TO powerless")
    for grant in LISTENER:
        sql(grant)
    for (name,) in sql("SELECT oid::regprocedure FROM pg_proc WHERE proname = %s", function):
        sql(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    with session("powerless"), pytest.raises(NotReady, match=rf"pg_catalog\.{function}\("):
        check_workable(connection)


def test_a_schema_that_is_closed_is_not_taken_for_one_without_our_tables() -> None:
    """F11: it said to run migrate."""
    sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with (
        session("powerless"),
        pytest.raises(NotReady, match="GRANT USAGE ON SCHEMA public TO powerless;"),
    ):
        check_ready(connection)


SEEN = {
    "status": "pgpubsub_sql_notification",
    "failed": "pgpubsub_sql_notification",
    "parked": "pgpubsub_sql_notification",
    "verify": "django_migrations",
    "ls": "django_migrations",
    "install": "django_migrations",
}


@pytest.mark.parametrize("word", SEEN)
def test_row_level_security_does_not_make_commands_say_that_there_is_nothing(word: str) -> None:
    """F12: nothing waited, nothing had failed, no migration had run."""
    sql("GRANT USAGE ON SCHEMA public TO powerless")
    sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO powerless")
    sql(f"ALTER TABLE {SEEN[word]} ENABLE ROW LEVEL SECURITY")
    hidden = rf"a policy for SELECT on public\.{SEEN[word]}.*CREATE POLICY"
    with session("powerless"), pytest.raises(CommandError, match=hidden):
        call_command("pgpubsub", word, stdout=io.StringIO())
    sql(f"CREATE POLICY reading ON {SEEN[word]} FOR SELECT TO powerless USING (true)")
    with session("powerless"):
        call_command("pgpubsub", word, stdout=io.StringIO())


@pytest.mark.parametrize("word", ["status", "tail"])
def test_a_command_says_which_grant_it_lacks(word: str) -> None:
    """F11: it ended with PostgreSQL's traceback."""
    sql("GRANT USAGE ON SCHEMA public TO powerless")
    with session("powerless"), pytest.raises(CommandError, match="GRANT SELECT ON public"):
        call_command("pgpubsub", word, stdout=io.StringIO())
