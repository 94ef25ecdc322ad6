"""Roles, owners and row level security: what makes writes fail is seen, named and mended."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction

from pgpubsub_sql import Notification
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.sql.privileges import HELPERS, needed_by
from pgpubsub_sql.sql.readiness import check_ready, check_workable
from pgpubsub_sql.sql.templates import load
from pgpubsub_sql.sql.trigger import Trigger
from tests.ledger import sql

pytestmark = pytest.mark.django_db

OBJECTS = """
    SELECT format('ALTER TABLE %I OWNER TO {role}', relname)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    UNION ALL
    SELECT format('ALTER FUNCTION %s OWNER TO {role}', oid::regprocedure)
    FROM pg_proc WHERE starts_with(proname, 'pgpubsub_')
"""


@pytest.fixture(autouse=True)
def roles(db: None) -> None:
    """Let everything of ours belong to an ordinary role; make a writer and one for nothing."""
    for role in ("migrator", "owner", "writer", "powerless"):
        sql(f"CREATE ROLE {role}")
    sql("ALTER SCHEMA public OWNER TO migrator")
    sql("GRANT USAGE ON SCHEMA public TO migrator, owner, writer")
    sql("GRANT CREATE ON SCHEMA public TO owner, powerless")
    give_all("migrator")
    sql("GRANT INSERT ON app_item TO writer")


def give_all(role: str, *, kind: str = "") -> None:
    for (statement,) in sql(OBJECTS.format(role=role)):
        if kind in statement:
            sql(statement)


def functions() -> dict[str, str]:
    """The functions of the two channels, as PostgreSQL spells them."""
    found = sql(
        "SELECT DISTINCT tgfoid::regprocedure::text, prosrc LIKE '%send_v1%' FROM pg_trigger"
        " JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgrelid = 'app_item'::regclass"
    )
    return {"ephemeral" if is_sent else "durable": name for name, is_sent in found}


@contextmanager
def session(role: str) -> Iterator[None]:
    """Be somebody else."""
    sql(f"SET LOCAL SESSION AUTHORIZATION {role}")
    try:
        yield
    finally:
        sql("SET SESSION AUTHORIZATION DEFAULT")


def write() -> None:
    """Write as a role that has no rights on ours; one message is too long for a NOTIFY."""
    with transaction.atomic():
        sql("SET LOCAL SESSION AUTHORIZATION writer")
        for name in ("Ann", "Ann" * 5000):
            sql("INSERT INTO app_item (name, number, amount, data) VALUES (%s, 0, 0, '{}')", name)
        sql("SET SESSION AUTHORIZATION DEFAULT")


def told() -> tuple[int, int]:
    """How many messages a write leaves, stored and too long."""
    Notification.objects.all().delete()
    LongPayload.objects.all().delete()
    write()
    return Notification.objects.count(), LongPayload.objects.count()


def verify() -> str:
    """Return what ``verify`` finds; nothing where all agrees."""
    out = io.StringIO()
    try:
        call_command("pgpubsub", "verify", stdout=out)
    except CommandError:
        return out.getvalue()
    assert "agree" in out.getvalue()
    return ""


def install() -> str:
    out = io.StringIO()
    call_command("pgpubsub", "install", stdout=out)
    return out.getvalue()


def test_a_writer_that_has_no_rights_on_ours_is_told() -> None:
    assert not verify()
    assert told() == (2, 1)


FOR_ALL = """DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT oid::regclass FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    LOOP EXECUTE format('ALTER TABLE %s {}', name); END LOOP;
END $$"""

FAILING = {
    "all tables change their owner": (FOR_ALL.format("OWNER TO owner"), "migrator", "INSERT"),
    "our tables change their owner": (
        "ALTER TABLE pgpubsub_sql_notification OWNER TO owner",
        "migrator",
        "INSERT on public.pgpubsub_sql_notification",
    ),
    "the secret changes its owner": (
        "ALTER TABLE pgpubsub_sql_secret OWNER TO owner",
        "migrator",
        "SELECT, INSERT on public.pgpubsub_sql_secret",
    ),
    "the durable function changes its owner": (
        "ALTER FUNCTION {durable} OWNER TO powerless",
        "powerless",
        "INSERT on public.pgpubsub_sql_notification, EXECUTE on FUNCTION",
    ),
    "the ephemeral function changes its owner": (
        "ALTER FUNCTION {ephemeral} OWNER TO powerless",
        "powerless",
        "pgpubsub_send_v1",
    ),
    "a helper that sends changes its owner": (
        "ALTER FUNCTION pgpubsub_send_v1 OWNER TO powerless",
        "powerless",
        "INSERT on public.pgpubsub_sql_longpayload",
    ),
    "a helper of all changes its owner": (
        "ALTER FUNCTION pgpubsub_must_notify OWNER TO powerless",
        "migrator",
        "EXECUTE on FUNCTION public.pgpubsub_must_notify(text)",
    ),
    "INSERT is revoked": (
        "REVOKE INSERT ON pgpubsub_sql_notification FROM migrator",
        "migrator",
        "INSERT",
    ),
    "SELECT is revoked from the secret": (
        "REVOKE SELECT ON pgpubsub_sql_secret FROM migrator",
        "migrator",
        "SELECT",
    ),
    "SELECT is revoked from long payloads": (
        "REVOKE SELECT ON pgpubsub_sql_longpayload FROM migrator",
        "migrator",
        "SELECT",
    ),
    "a helper's EXECUTE is revoked": (
        "REVOKE EXECUTE ON FUNCTION pgpubsub_must_notify(text) FROM migrator",
        "migrator",
        "pgpubsub_must_notify",
    ),
    "that of a helper of a helper is": (
        "REVOKE EXECUTE ON FUNCTION pgpubsub_bucket_v1(text) FROM migrator",
        "migrator",
        "pgpubsub_bucket_v1",
    ),
    "PostgreSQL's own is closed to the public": (
        "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC",
        "migrator",
        "pg_catalog.pg_notify(text, text)",
    ),
    "the schema is closed": (
        "ALTER SCHEMA public OWNER TO owner; REVOKE ALL ON SCHEMA public FROM migrator, PUBLIC",
        "migrator",
        "USAGE on SCHEMA public",
    ),
    "row level security is forced on everybody": (
        FOR_ALL.format("ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        + "; CREATE POLICY theirs ON app_item USING (true)",
        "migrator",
        "a policy for INSERT on public.pgpubsub_sql_notification",
    ),
    "row level security, and the functions are not the tables' owner's": (
        FOR_ALL.format("ENABLE ROW LEVEL SECURITY, OWNER TO owner")
        + "; GRANT ALL ON ALL TABLES IN SCHEMA public TO migrator"
        + "; CREATE POLICY theirs ON app_item USING (true)",
        "migrator",
        "a policy for SELECT, INSERT on public.pgpubsub_sql_longpayload",
    ),
    "policies permit others, and other commands": (
        FOR_ALL.format("ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        + "; CREATE POLICY theirs ON app_item USING (true)"
        + "; CREATE POLICY theirs ON pgpubsub_sql_notification TO owner USING (true)"
        + "; CREATE POLICY reading ON pgpubsub_sql_notification FOR SELECT USING (true)",
        "migrator",
        "a policy for INSERT on public.pgpubsub_sql_notification",
    ),
}
"""What makes writes fail; the role that lacks something then, and what it lacks."""


@pytest.mark.parametrize("damage", FAILING)
def test_what_makes_writes_fail_is_seen_named_and_mended(damage: str) -> None:
    """F11, F12: writes failed, while verify agreed and install found nothing to do."""
    statement, role, lacks = FAILING[damage]
    sql(statement.format(**functions()) if "{" in statement else statement)
    with pytest.raises(ProgrammingError, match=r"permission denied|row-level security"):
        write()
    problems = verify()
    assert f"runs as the role '{role}'" in problems
    assert lacks in problems
    assert re.search(rf"(GRANT|CREATE POLICY) .* TO {role}\b.*;", problems)
    assert f"TO {role}" in install()
    assert not verify()
    assert told() == (2, 1)
    assert install() == "Everything is installed already.\n"


HARMLESS = {
    "all that is the migrator's becomes another's": ["REASSIGN OWNED BY migrator TO owner"],
    "row level security on every table": [FOR_ALL.format("ENABLE ROW LEVEL SECURITY")],
    "another owner of functions who may do as the first": [
        "GRANT migrator TO powerless",
        "ALTER FUNCTION {durable} OWNER TO powerless",
        "ALTER FUNCTION {ephemeral} OWNER TO powerless",
    ],
    "policies permit all": [
        FOR_ALL.format("ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
        "CREATE POLICY mine ON pgpubsub_sql_notification TO migrator USING (true)",
        "CREATE POLICY mine ON pgpubsub_sql_longpayload USING (true)",
        "CREATE POLICY mine ON pgpubsub_sql_secret USING (true)",
    ],
    "a role that row level security does not concern": [
        "ALTER ROLE migrator BYPASSRLS",
        FOR_ALL.format("ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
    ],
    "privileges by way of PUBLIC": [
        "ALTER TABLE pgpubsub_sql_notification OWNER TO owner",
        "GRANT SELECT, INSERT ON pgpubsub_sql_notification TO PUBLIC",
    ],
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_harms_no_write_is_not_reported(change: str) -> None:
    """F11, F12: roles are granted what they need in many ways."""
    for statement in HARMLESS[change]:
        sql(statement.format(**functions()) if "{" in statement else statement)
    sql("ALTER TABLE app_item DISABLE ROW LEVEL SECURITY")
    assert not verify()
    assert told() == (2, 1)


def test_install_says_what_others_have_to_give() -> None:
    """F11: it gives what its role may give, and names the rest."""
    sql("ALTER TABLE pgpubsub_sql_notification OWNER TO owner")
    grant = r"lacks INSERT on public\.pgpubsub_sql_notification.*GRANT INSERT ON .* TO migrator;"
    with session("migrator"), pytest.raises(CommandError, match=grant):
        install()
    with session("owner"):
        sql("GRANT INSERT ON pgpubsub_sql_notification TO migrator")


# Workers and people with other commands.

LISTENER = [
    "GRANT SELECT, INSERT, UPDATE, DELETE ON pgpubsub_sql_notification TO powerless",
    "GRANT SELECT, DELETE ON pgpubsub_sql_longpayload TO powerless",
    "GRANT SELECT ON pgpubsub_sql_secret TO powerless",
    "GRANT EXECUTE ON FUNCTION pgpubsub_key_v1(jsonb) TO powerless",
    "GRANT EXECUTE ON FUNCTION pgpubsub_bucket_v1(text) TO powerless",
]


@pytest.mark.parametrize("left_out", [*range(5), None])
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


def test_a_command_says_which_grant_it_lacks() -> None:
    """F11: it ended with PostgreSQL's traceback."""
    sql("GRANT USAGE ON SCHEMA public TO powerless")
    with session("powerless"), pytest.raises(CommandError, match="GRANT SELECT ON public"):
        call_command("pgpubsub", "status", stdout=io.StringIO())


# The tables.

INVOKERS = {
    "pgpubsub_must_notify": {
        "pgpubsub_bucket_v1",
        "pg_try_advisory_xact_lock_shared",
        "pg_try_advisory_lock",
        "pg_advisory_unlock",
    }
}
"""Helpers that run with their caller's rights, and so need what they call to be the caller's."""


def named(*templates: str) -> set[str]:
    """Return what of ours templates name, and of PostgreSQL's what sends."""
    text = "\n".join(map(load, templates))
    names = {*re.findall(r':"(?:schema|helpers)"\.(pgpubsub_\w+)', text)}
    names |= {*re.findall(r"\bpg_notify\b", text)}
    for invoker, called in INVOKERS.items():
        names |= called if invoker in names else set()
    return names


@pytest.mark.parametrize("name", HELPERS)
def test_the_table_has_what_a_helper_names(name: str) -> None:
    """F11: neither more nor less than its source."""
    used = named(f"helpers/{name.removeprefix('pgpubsub_')}") - {name}
    assert {one.name for one in HELPERS[name]} == used


def test_the_table_has_every_helper_that_runs_with_its_owners_rights() -> None:
    """F11."""
    rows = sql(
        "SELECT proname FROM pg_proc WHERE starts_with(proname, 'pgpubsub_')"
        " AND prosecdef AND prorettype <> 'trigger'::regtype"
    )
    assert {name for (name,) in rows} == {*HELPERS}


OWN = ("triggers/function", "triggers/ignored")


@pytest.mark.parametrize(
    ("options", "templates"),
    [
        ({"durable": True}, (*OWN, "triggers/store", "triggers/ring")),
        ({"durable": False}, (*OWN, "triggers/send")),
        (
            {"durable": True, "ordering_key": ("id",), "ignorable": False},
            ("triggers/function", "triggers/store", "triggers/ring", "triggers/key"),
        ),
    ],
)
def test_the_table_has_what_the_function_of_a_channel_names(
    options: dict[str, Any], templates: tuple[str, ...]
) -> None:
    """F11: by what the channel's options ask for."""
    trigger = Trigger(channel="c", model="app.item", after=("insert",), **options)
    assert {one.name for one in needed_by(trigger)} == named(*templates)
