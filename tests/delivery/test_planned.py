"""Claims are planned once a session, whatever the table looks like then."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import TestCase

from pgpubsub_sql import notify
from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane, columns
from pgpubsub_sql.worker import claims
from pgpubsub_sql.worker.delivery import LOOK, NEXT_READY, Delivery
from pgpubsub_sql.worker.history import History
from pgpubsub_sql.worker.ordered_claims import LOCK_KEYS, OrderedClaims
from pgpubsub_sql.worker.planned import Planned, Plans
from pgpubsub_sql.worker.session import Session
from tests.app.channels import Job, Step
from tests.delivery.channels import LoneJob, Twice
from tests.delivery.sending import jobs
from tests.ledger import numbers, sql, stranger

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 50_000
SHARING = (Job, LoneJob, Twice)
ROWS = f"""
    INSERT INTO pgpubsub_sql_notification (channel, payload, key)
    SELECT channel, '{{}}', key FROM generate_series(1, {MANY}) AS number
    CROSS JOIN (VALUES ('app.Job', NULL), ('app.Step', '["a"]')) AS each (channel, key)"""
READ = """
    SELECT seq_scan, seq_tup_read, coalesce(idx_tup_fetch, 0)
    FROM pg_stat_xact_user_tables WHERE relname = 'pgpubsub_sql_notification'"""


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Record what is executed on Django's connection."""
    found: list[str] = []

    def record(execute: Any, text: Any, *rest: Any) -> Any:
        found.append(str(text))
        return execute(text, *rest)

    with connection.execute_wrapper(record):
        yield found


def called(found: list[str]) -> list[bool]:
    """Return of each claim that was executed whether it was by a function."""
    claimed = [text for text in found if "taken AS" in text or "SELECT * FROM pg_temp" in text]
    return ["pg_temp" in text for text in claimed if "CREATE" not in text]


def made(found: list[str]) -> int:
    return sum("CREATE OR REPLACE FUNCTION pg_temp" in text for text in found)


def all_planned() -> dict[str, tuple[Planned, dict[str, Any]]]:
    """Return each statement that is planned, and parameters."""
    session = Session("default")
    history, everything = History(Job, session), ClaimFilter()
    job, step = Lane("app.Job")._asdict(), Lane("app.Step")._asdict()
    limits = {"limit": 10, "bytes": claims.CLAIM_BYTES}
    unordered = claims.UnorderedClaims(Lane("app.Job"), session, everything, history)
    kept = History(Step, session)
    ordered = OrderedClaims(Lane("app.Step"), session, everything, kept)
    lanes = columns([Lane("app.Job")])
    start = {"after": "-infinity", "after_id": 0, "keyless": False}
    return {
        "take": (unordered._take, job | limits | start),
        "take_ordered": (
            ordered._take,
            step | limits | {"keys": ['["a"]'], "alone": False} | kept.begin(),
        ),
        "look": (LOOK, lanes | {"after": ["-infinity"], "after_ids": [0]}),
        "next_ready": (NEXT_READY, lanes | {"after": None}),
        "lock_keys": (LOCK_KEYS, step | {"after": "", "limit": 50, "steps": 1000}),
    }


@pytest.mark.parametrize("name", all_planned())
def test_what_was_planned_for_an_empty_table_suits_a_full_one(name: str) -> None:
    """A plan that reads the whole table is the best one while there is one page of it."""
    planned, parameters = all_planned()[name]
    session, plans = Session("default"), Plans(is_possible=True)
    sql("TRUNCATE pgpubsub_sql_notification")
    sql("VACUUM ANALYZE pgpubsub_sql_notification")
    plans.text(planned)
    plans.make("default", session.execute)
    call = plans.text(planned)
    assert call != planned.text
    session.execute(name, parameters, text=call)
    sql(ROWS)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(READ)
        before = cursor.fetchone() or (0, 0, 0)
        cursor.execute(call, parameters)
        assert 1 <= len(cursor.fetchall()) <= 10
        cursor.execute(READ)
        after = cursor.fetchone()
        transaction.set_rollback(True)
    scans, rows, fetched = (now - was for now, was in zip(after, before, strict=True))
    assert (scans, rows) == (0, 0)
    assert fetched < 50


def test_the_first_claim_has_functions_made_and_the_next_ones_call_them(
    delivery: Delivery,
) -> None:
    with recorded() as found:
        for _ in range(4):
            jobs("good")
            delivery.handle_stored("app.Job")
    assert called(found)[0] is False
    assert len(called(found)) >= 4
    assert all(called(found)[1:])
    assert made(found) == 1
    assert len(numbers("do_job")) == 4


def test_channels_share_a_function(delivery: Delivery) -> None:
    with recorded() as found:
        for _ in range(3):
            for channel in SHARING:
                delivery.handle_stored(channel.postgres_name())
    assert made(found) == 1
    assert called(found)[-3:] == [True] * 3


def test_keyed_messages_are_claimed_by_functions_in_order(delivery: Delivery) -> None:
    for number in range(1, 31):
        notify(Step, account=str(number % 3), number=number)
    with recorded() as found:
        while delivery.handle_stored("app.Step"):
            pass
    assert made(found) >= 2
    assert called(found)[-1]
    assert not Notification.objects.exists()
    for key in range(3):
        of_key = [number for number in numbers("step") if number % 3 == key]
        assert of_key == sorted(of_key)
        assert len(of_key) == 10


@pytest.mark.parametrize("statement", ["DISCARD ALL", "DISCARD TEMP"])
def test_functions_that_were_discarded_are_made_again(
    delivery: Delivery, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        jobs("good")
        delivery.handle_stored("app.Job")
    sql(statement)
    jobs("good")
    with recorded() as found:
        for _ in range(3):
            delivery.handle_stored("app.Job")
    assert called(found) == [True, False, True]
    assert made(found) == 1
    assert len(numbers("do_job")) == 4
    assert not caplog.messages


def test_looks_go_on_by_themselves(delivery: Delivery) -> None:
    """They need no transaction, so they are executed again."""
    for _ in range(2):
        delivery.next_ready()
        delivery.look({Lane("app.Job"): True})
        delivery.handle_stored("app.Job")
    sql("DISCARD TEMP")
    with recorded() as found:
        for _ in range(2):
            assert Lane("app.Job") in delivery.look({Lane("app.Job"): True})
    assert ["pg_temp" in text for text in found] == [True, False, False]


def test_a_look_by_a_connection_that_is_new_calls_no_function(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """It is made by that query, before a batch has prepared it."""
    for _ in range(2):
        delivery.next_ready()
        delivery.handle_stored("app.Job")
    connection.close()
    with recorded() as found:
        delivery.next_ready()
    assert ["pg_temp" in text for text in found] == [False]


@pytest.fixture
def without_temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Django's connection has a role that may not create anything temporary."""
    role, name = f"plain_{uuid.uuid4().hex[:8]}", connection.settings_dict["NAME"]
    sql(f"CREATE ROLE {role}")
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        sql(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {role}")
    sql(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC')
    monkeypatch.setenv("PGOPTIONS", f"-c role={role}")
    connection.close()
    yield
    connection.close()
    monkeypatch.undo()
    sql(f'GRANT TEMPORARY ON DATABASE "{name}" TO PUBLIC')
    sql(f"DROP OWNED BY {role}")
    sql(f"DROP ROLE {role}")


def test_a_role_without_the_privilege_has_claims_planned_each_time(
    without_temporary: None, delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pgpubsub_sql.worker")
    with recorded() as found:
        for _ in range(4):
            jobs("good")
            delivery.handle_stored("app.Job")
    assert len(numbers("do_job")) == 4
    assert not any(called(found))
    (message,) = caplog.messages
    assert "planned each time" in message
    assert "permission denied" in message


class InATestsTransaction(TestCase):
    """What was made there would be rolled back with it."""

    def test_nothing_is_made(self) -> None:
        delivery = Delivery([Job], using="default", schema="public")
        with recorded() as found:
            for _ in range(3):
                jobs("good")
                delivery.handle_stored("app.Job")
        assert not made(found)
        assert not any(called(found))


def test_a_connection_that_is_lost_meanwhile_is_no_missing_privilege(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """Django connects again at once, and the worker would have gone on with the old connection."""
    caplog.set_level("INFO", "pgpubsub_sql.worker")
    delivery.handle_stored("app.Job")
    with stranger() as other:
        other.execute(
            "SELECT pg_terminate_backend(%s, 10000)", [connection.connection.info.backend_pid]
        )
    with pytest.raises(DatabaseError):
        delivery.handle_stored("app.Job")
    jobs("good")
    with recorded() as found:
        for _ in range(3):
            delivery.handle_stored("app.Job")
    assert len(numbers("do_job")) == 1
    assert called(found)[-1]
    assert "planned each time" not in caplog.text


def test_a_new_connection_has_functions_of_its_own(delivery: Delivery) -> None:
    with recorded() as found:
        for _ in range(3):
            delivery.handle_stored("app.Job")
        connection.close()
        for _ in range(3):
            delivery.handle_stored("app.Job")
    assert called(found) == [False, True, True] * 2
    assert made(found) == 2
