"""Damage that people and tools do to an installed database, and what commands must say of it."""

from __future__ import annotations

from typing import NamedTuple

from pgpubsub_sql.sql import quote_identifier
from pgpubsub_sql.sql.trigger import Trigger

AUTHORS = Trigger(channel="blog.Authors", model="blog.author", after=("insert", "update"))
F = quote_identifier(AUTHORS.function)
T = quote_identifier(AUTHORS.triggers()["after_insert"])
U = quote_identifier(AUTHORS.triggers()["after_update"])
N = "pgpubsub_sql_notification"

INSERTS = "AFTER INSERT ON blog_author REFERENCING NEW TABLE AS pgpubsub_new FOR EACH STATEMENT"


class Damage(NamedTuple):
    """Statements, and what they do."""

    statements: tuple[str, ...]
    says: str
    """Words of what ``verify`` says of it."""
    is_felt: bool = True
    """Whether a write fails, or is told otherwise than declared."""


def _recreated(trigger: str) -> tuple[str, ...]:
    return (f"DROP TRIGGER {T} ON blog_author", f"CREATE TRIGGER {T} {trigger}")


def _replaced(header: str, body: str) -> tuple[str, ...]:
    return (f"CREATE OR REPLACE FUNCTION {header} AS $${body}$$",)


MUST_NOTIFY = "pgpubsub_must_notify(channel text) RETURNS boolean LANGUAGE plpgsql"

DAMAGE = {
    # --- of a channel
    "a trigger is dropped": Damage((f"DROP TRIGGER {T} ON blog_author",), "has no trigger"),
    "the function is dropped": Damage((f"DROP FUNCTION {F} CASCADE",), "has no trigger"),
    "the body is replaced": Damage(
        _replaced(f"{F}() RETURNS trigger LANGUAGE plpgsql", "BEGIN RETURN NULL; END"),
        "its body differs",
    ),
    "the body is that of an older version": Damage(
        (
            f"DO $$BEGIN EXECUTE replace(pg_get_functiondef('{F}'::regproc), "
            "'RETURN NEW;', 'RETURN NEW; -- as it was'); END$$",
        ),
        "its body differs",
        is_felt=False,
    ),
    "the trigger never fires": Damage(
        _recreated(f"{INSERTS} WHEN (false) EXECUTE FUNCTION {F}()"), "has a condition"
    ),
    "the trigger fires for some columns": Damage(
        (
            f"DROP TRIGGER {U} ON blog_author",
            f"CREATE TRIGGER {U} AFTER UPDATE OF id ON blog_author "
            f"FOR EACH ROW EXECUTE FUNCTION {F}()",
        ),
        "has a condition, columns or arguments",
    ),
    "the trigger fires for another event": Damage(
        _recreated(f"AFTER TRUNCATE ON blog_author FOR EACH STATEMENT EXECUTE FUNCTION {F}()"),
        "fires for another event",
    ),
    "the trigger fires too early": Damage(
        _recreated(f"BEFORE INSERT ON blog_author FOR EACH STATEMENT EXECUTE FUNCTION {F}()"),
        "fires for another event",
    ),
    "the trigger fires for each row": Damage(
        _recreated(f"AFTER INSERT ON blog_author FOR EACH ROW EXECUTE FUNCTION {F}()"),
        "does not fire for each statement",
    ),
    "the trigger is a constraint": Damage(
        (
            f"DROP TRIGGER {T} ON blog_author",
            f"CREATE CONSTRAINT TRIGGER {T} AFTER INSERT ON blog_author "
            f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {F}()",
        ),
        "is a constraint trigger",
    ),
    "there is a trigger too much": Damage(
        (f"CREATE TRIGGER surplus {INSERTS} EXECUTE FUNCTION {F}()",), "should not be there"
    ),
    "a trigger is renamed": Damage(
        (f"ALTER TRIGGER {T} ON blog_author RENAME TO renamed",), "has no trigger", is_felt=False
    ),
    "the function is renamed": Damage(
        (f"ALTER FUNCTION {F} RENAME TO renamed",), "has no trigger", is_felt=False
    ),
    "a trigger is disabled": Damage(
        (f"ALTER TABLE blog_author DISABLE TRIGGER {T}",), "has a disabled trigger"
    ),
    "a trigger fires on replicas": Damage(
        (f"ALTER TABLE blog_author ENABLE REPLICA TRIGGER {T}",), "has a disabled trigger"
    ),
    "all triggers are disabled": Damage(
        ("ALTER TABLE blog_author DISABLE TRIGGER ALL",), "has a disabled trigger"
    ),
    "the function runs as its caller": Damage(
        (f"ALTER FUNCTION {F} SECURITY INVOKER",), "it is not SECURITY DEFINER"
    ),
    "the function looks elsewhere": Damage(
        (f"ALTER FUNCTION {F} SET search_path = pg_temp, public",),
        "its setting search_path differs",
        is_felt=False,
    ),
    "the function spells dates otherwise": Damage(
        (f"ALTER FUNCTION {F} RESET datestyle",), "its setting datestyle differs", is_felt=False
    ),
    "the function has a setting more": Damage(
        (f"ALTER FUNCTION {F} SET work_mem = '64kB'",),
        "its setting work_mem differs",
        is_felt=False,
    ),
    "everybody may call the function": Damage(
        (f"GRANT EXECUTE ON FUNCTION {F} TO PUBLIC",),
        "every role may execute",
        is_felt=False,
    ),
    "the function goes to a role that may do nothing": Damage(
        (f"ALTER FUNCTION {F} OWNER TO WRITER",), "that runs as the role"
    ),
    "something is left over": Damage(
        (
            "CREATE FUNCTION pgpubsub_channel_blog__gone() RETURNS trigger LANGUAGE plpgsql AS "
            """$$\n-- pgpubsub_sql {"app": "blog", "channel": "blog.Gone"}\nBEGIN END$$""",
        ),
        "is left over in the database",
        is_felt=False,
    ),
    # --- of what all channels share
    "a helper is dropped": Damage(
        ("DROP FUNCTION pgpubsub_must_notify(text)",),
        "The function pgpubsub_must_notify(text) is missing",
    ),
    "everybody may call a helper": Damage(
        ("GRANT EXECUTE ON FUNCTION pgpubsub_send_v1(text, jsonb) TO PUBLIC",),
        "Every role may execute the function pgpubsub_send_v1(text, jsonb)",
        is_felt=False,
    ),
    "a helper is replaced": Damage(
        (
            "CREATE OR REPLACE FUNCTION pgpubsub_context_v1() RETURNS jsonb LANGUAGE sql "
            "AS $$SELECT '{\"odd\": 1}'::jsonb$$",
        ),
        "pgpubsub_context_v1() has been changed: its language differs",
        is_felt=False,  # it is called only if a context is set
    ),
    "a helper returns something else": Damage(
        (
            "DROP FUNCTION pgpubsub_must_notify(text)",
            *_replaced(MUST_NOTIFY.replace("boolean", "text"), "BEGIN END"),
        ),
        "its result differs",
    ),
    "a helper has other arguments": Damage(
        (
            "DROP FUNCTION pgpubsub_must_notify(text)",
            *_replaced(MUST_NOTIFY.replace("channel", "name"), "BEGIN RETURN false; END"),
        ),
        "its arguments differ",
        is_felt=False,  # it only notifies no more
    ),
    "every function of ours is gone": Damage(
        (
            "DO $$DECLARE one regprocedure; BEGIN FOR one IN SELECT oid FROM pg_proc "
            "WHERE starts_with(proname, 'pgpubsub_') AND pronamespace = 'public'::regnamespace "
            "LOOP EXECUTE format('DROP FUNCTION %s CASCADE', one); END LOOP; END$$",
        ),
        "is missing",
    ),
    "our table is dropped": Damage((f"DROP TABLE {N}",), f"The table {N} is missing"),
    "all our tables are dropped": Damage(
        (
            f"DROP TABLE {N}, pgpubsub_sql_longpayload, pgpubsub_sql_inflight, "
            "pgpubsub_sql_subscription, pgpubsub_sql_counter, pgpubsub_sql_position, "
            "pgpubsub_sql_inbox, pgpubsub_sql_secret",
        ),
        "The table pgpubsub_sql_secret is missing",
    ),
    "our table is renamed": Damage((f"ALTER TABLE {N} RENAME TO renamed",), "is called renamed"),
    "the table of what takes long is dropped": Damage(
        ("DROP TABLE pgpubsub_sql_inflight",),
        "The table pgpubsub_sql_inflight is missing",
        is_felt=False,
    ),
    "the table of subscriptions is dropped": Damage(
        ("DROP TABLE pgpubsub_sql_subscription",),
        "The table pgpubsub_sql_subscription is missing",
    ),
    "the key of subscriptions is dropped": Damage(
        ("ALTER TABLE pgpubsub_sql_subscription DROP CONSTRAINT pgpubsub_sql_subscription_pkey",),
        "The primary key of pgpubsub_sql_subscription is missing",
        is_felt=False,
    ),
    "the table of counters is dropped": Damage(
        ("DROP TABLE pgpubsub_sql_counter",),
        "The table pgpubsub_sql_counter is missing",
        is_felt=False,
    ),
    "the key of counters is dropped": Damage(
        ("ALTER TABLE pgpubsub_sql_counter DROP CONSTRAINT pgpubsub_sql_counter_pkey",),
        "The primary key of pgpubsub_sql_counter is missing",
        is_felt=False,
    ),
    "the secret is dropped": Damage(
        ("DROP TABLE pgpubsub_sql_secret",),
        "The table pgpubsub_sql_secret is missing",
        is_felt=False,
    ),
    "everybody may read the secret": Damage(
        ("GRANT SELECT ON pgpubsub_sql_secret TO PUBLIC",), "Every role may read", is_felt=False
    ),
    "a column of ours is dropped": Damage(
        (f"ALTER TABLE {N} DROP COLUMN key",), f"The column key of {N} is missing"
    ),
    "a column that must be given is dropped": Damage(
        (f"ALTER TABLE {N} DROP COLUMN payload",), f"The column payload of {N} is missing"
    ),
    "a column of ours is renamed": Damage(
        (f"ALTER TABLE {N} RENAME COLUMN payload TO body",),
        f"The column payload of {N} is",  # called body, or missing where it was brought back before
    ),
    "a column is added": Damage(
        (f"ALTER TABLE {N} ADD COLUMN tenant integer NOT NULL",), "which is not ours, is NOT NULL"
    ),
    "a column has no default": Damage(
        (f"ALTER TABLE {N} ALTER attempts DROP DEFAULT",), f"attempts of {N} has another default"
    ),
    "a column has another default": Damage(
        (f"ALTER TABLE {N} ALTER available_at SET DEFAULT 'infinity'",),
        "has another default",
        is_felt=False,
    ),
    "a column may be NULL": Damage(
        (f"ALTER TABLE {N} ALTER channel DROP NOT NULL",),
        f"channel of {N} is nullable",
        is_felt=False,
    ),
    "a column is of another type": Damage(
        (f"ALTER TABLE {N} ALTER payload TYPE text",), "is text, not jsonb", is_felt=False
    ),
    "an id is of another type": Damage(
        (f"ALTER TABLE {N} ALTER id TYPE integer",), "is integer, not bigint", is_felt=False
    ),
    "a column is added and another dropped": Damage(
        (f"ALTER TABLE {N} ADD COLUMN note text, DROP COLUMN key",),
        f"The column key of {N} is missing",
    ),
    "ids are not given": Damage(
        (f"ALTER TABLE {N} ALTER id DROP IDENTITY",), f"id of {N} is no longer an identity column"
    ),
    "ids came from another sequence": Damage(
        (
            f"INSERT INTO {N} (id, channel, payload) VALUES (1, 'other', '{{}}') "
            "ON CONFLICT DO NOTHING",
            f"ALTER TABLE {N} ALTER id DROP IDENTITY",
            f"CREATE SEQUENCE IF NOT EXISTS others START 1000 OWNED BY {N}.id",
            f"ALTER TABLE {N} ALTER id SET DEFAULT nextval('others')",
        ),
        f"id of {N} is no longer an identity column",
    ),
    "an index is dropped": Damage(
        ("DROP INDEX pgpubsub_sql_available",), "The index pgpubsub_sql_available", is_felt=False
    ),
    "an index is another": Damage(
        ("DROP INDEX pgpubsub_sql_key", f"CREATE INDEX pgpubsub_sql_key ON {N} (id)"),
        "The index pgpubsub_sql_key",
        is_felt=False,
    ),
    "the primary key is dropped": Damage(
        (f"ALTER TABLE {N} DROP CONSTRAINT {N}_pkey",), "The primary key", is_felt=False
    ),
    "a table is unlogged": Damage((f"ALTER TABLE {N} SET UNLOGGED",), "is unlogged", is_felt=False),
}
