"""Roles, owners and row level security: what makes writes fail is found and mended."""

from __future__ import annotations

import re

import pytest
from django.core.management import CommandError
from django.db import ProgrammingError

from tests.ledger import sql
from tests.privileges.support import functions, install, session, told, verify, write

pytestmark = pytest.mark.django_db


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
        "INSERT on public.pgpubsub_sql_notification, SELECT on public.pgpubsub_sql_subscription, "
        "USAGE on SEQUENCE public.pgpubsub_sql_notification_id_seq, EXECUTE on FUNCTION",
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
        "CREATE POLICY mine ON pgpubsub_sql_subscription USING (true)",
    ],
    "a role that row level security does not concern": [
        "ALTER ROLE migrator BYPASSRLS",
        FOR_ALL.format("ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
    ],
    "privileges by way of PUBLIC": [
        "ALTER TABLE pgpubsub_sql_notification OWNER TO owner",
        "GRANT SELECT, INSERT ON pgpubsub_sql_notification TO PUBLIC",
        "GRANT USAGE ON SEQUENCE pgpubsub_sql_notification_id_seq TO PUBLIC",
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
