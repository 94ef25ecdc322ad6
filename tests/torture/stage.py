"""What is prepared in the database: roles, and tables for what goes astray."""

from __future__ import annotations

from tests.ledger import sql

WORKER = "torture_worker"
"""The role of the workers. It is no superuser, and its settings change."""
STRANGER = "torture_stranger"
"""A role that may do nothing but connect. Workers can become it, and it forges messages."""
DECOY = "decoy"
"""A schema with tables of the same names. Nothing is to be written there."""

TABLES = """
    SELECT quote_ident(relname) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"""

ROLES = f"""
    CREATE ROLE {WORKER} LOGIN;
    CREATE ROLE {STRANGER} LOGIN;
    GRANT {STRANGER} TO {WORKER};
    GRANT USAGE ON SCHEMA {DECOY} TO {WORKER}, {STRANGER};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, {DECOY} TO {WORKER};
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {WORKER};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {WORKER};
"""


def prepare() -> None:
    """Make the decoys and the roles. Workers have the same rights on both schemas."""
    make_decoys()
    sql(ROLES)


def make_decoys() -> None:
    """Make a table of the same name in the other schema, for each that is there."""
    sql(f"CREATE SCHEMA {DECOY}")
    for (name,) in sql(TABLES):
        sql(f"CREATE TABLE {DECOY}.{name} (LIKE public.{name} INCLUDING ALL)")
