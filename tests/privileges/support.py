"""Roles, writes as one of them, and what verify and install say."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import CommandError, call_command
from django.db import transaction

from pgpubsub_sql import Notification
from pgpubsub_sql.models import LongPayload
from tests.ledger import sql

OBJECTS = """
    SELECT format('ALTER TABLE %I OWNER TO {role}', relname)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
    UNION ALL
    SELECT format('ALTER FUNCTION %s OWNER TO {role}', oid::regprocedure)
    FROM pg_proc WHERE starts_with(proname, 'pgpubsub_')
"""


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
