"""Vacuuming: workers remove the rows of what they have handled, where they may."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from pgpubsub_sql import notify_many
from pgpubsub_sql.migrations_ops.shared_operations import TuneAutovacuum
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker import vacuuming
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.vacuuming import VACUUM_MESSAGES, Vacuum
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job
from tests.ledger import numbers, sql, stranger
from tests.workers import connected

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_autovacuum")]

TABLE = "pgpubsub_sql_notification"
ROLE = "vacuuming"


@pytest.fixture
def no_autovacuum() -> Iterator[None]:
    """Nobody else vacuums the table, or holds the lock of that."""
    sql(f"ALTER TABLE {TABLE} SET (autovacuum_enabled = false)")
    yield
    sql(f"ALTER TABLE {TABLE} RESET (autovacuum_enabled)")


@pytest.fixture
def role() -> Iterator[str]:
    """A role that has what workers need, and is not the owner."""
    sql(f"CREATE ROLE {ROLE}; GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE} TO {ROLE}")
    yield ROLE
    sql(f"RESET ROLE; DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    sql(f"SET ROLE {role}")
    yield
    sql("RESET ROLE")


def vacuums(times: int = 1) -> int:
    """Have a worker handle enough messages so many times; return how often it vacuums."""
    vacuum = Vacuum(Session("default"))
    with CaptureQueriesContext(connection) as queries:
        for number in range(1, times + 1):
            vacuum.run(number * VACUUM_MESSAGES)
    return [one["sql"] for one in queries].count(query("vacuum"))


def listen() -> None:
    with connected(Job) as worker:
        while worker.delivery.handled < 500:
            worker.step()


def drain() -> None:
    assert Worker([Job]).drain()


@pytest.mark.parametrize("handle", [listen, drain])
def test_the_table_does_not_grow_by_what_is_handled(
    handle: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuuming, "VACUUM_MESSAGES", 100)
    monkeypatch.setattr(vacuuming, "VACUUM_SHARE", 0)
    sql(f"VACUUM {TABLE}")
    sizes = []
    for _ in range(10):
        notify_many([Job(number) for number in range(500)])
        handle()
        sizes += sql(f"SELECT pg_table_size('{TABLE}'), pg_indexes_size('{TABLE}')")
    assert len(numbers("do_job")) == 5000
    for last, early in zip(sizes[-1], sizes[3], strict=True):
        assert last <= early


def test_it_comes_after_so_many_messages_and_takes_a_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert vacuums(times=10) == 1
    monkeypatch.setattr(vacuuming, "VACUUM_SHARE", 0)
    assert vacuums(times=10) == 10
    monkeypatch.setattr(vacuuming, "VACUUM_MESSAGES", math.inf)
    assert vacuums(times=10) == 0


def test_who_may_not_leaves_it_to_autovacuum(role: str) -> None:
    """PostgreSQL would warn each time, and succeed."""
    with acting_as(role):
        assert vacuums(times=10) == 0
    ((owner,),) = sql("SELECT quote_ident(current_user)")
    sql(f"GRANT {owner} TO {role}")
    with acting_as(role):
        assert vacuums() == 1


def test_the_privilege_maintain_is_enough(role: str) -> None:
    if connection.pg_version < 170000:
        pytest.skip("PostgreSQL 17 introduced it.")
    sql(f"GRANT MAINTAIN ON {TABLE} TO {role}")
    with acting_as(role):
        assert vacuums() == 1


def test_autovacuum_works_without_delays() -> None:
    ((options,),) = sql(f"SELECT reloptions FROM pg_class WHERE oid = '{TABLE}'::regclass")
    assert options == [
        "autovacuum_vacuum_cost_delay=0",
        "autovacuum_vacuum_scale_factor=0",
        "autovacuum_vacuum_threshold=1000",
        "autovacuum_enabled=false",  # by this module
    ]


def test_a_schema_without_the_table_is_left_alone() -> None:
    """As where migrations are off, or a schema comes first in search_path that is new."""
    with connection.schema_editor() as editor:
        TuneAutovacuum().create("nowhere", editor)
        TuneAutovacuum().drop("nowhere", editor)


def test_a_large_table_is_left_to_autovacuum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacuuming, "VACUUM_SHARE", 0)
    ((size,),) = sql(f"SELECT pg_total_relation_size('{TABLE}')")
    monkeypatch.setattr(vacuuming, "VACUUM_BYTES", size - 1)
    assert vacuums(times=10) == 0
    monkeypatch.setattr(vacuuming, "VACUUM_BYTES", size)
    assert vacuums(times=10) == 10


def test_it_waits_for_nobody() -> None:
    with stranger() as other:
        other.execute(f"BEGIN; LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
        assert vacuums() == 0  # PostgreSQL would warn
        sql("SET statement_timeout = '5s'")
        sql(query("vacuum"))  # as if the lock had come a moment later
        sql("RESET statement_timeout")
        other.execute("ROLLBACK")  # A session that is closed ends a moment later.
    assert vacuums() == 1


def test_it_is_left_out_in_a_transaction_as_of_a_test() -> None:
    with transaction.atomic():
        assert vacuums() == 0


def test_a_failure_is_told_and_harms_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    sql(f"ALTER TABLE {TABLE} RENAME TO gone")
    try:
        assert vacuums(times=10) == 0
    finally:
        sql(f"ALTER TABLE gone RENAME TO {TABLE}")
    monkeypatch.setattr(vacuuming, "RETRY_SECONDS", 0)
    assert vacuums() == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("Cannot vacuum the table of messages: ")
    assert "Run: python manage.py migrate" in record.getMessage()
