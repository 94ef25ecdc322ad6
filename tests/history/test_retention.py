"""Deleting what was kept for long enough: partition by partition, and never in anybody's way."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from pgpubsub_sql import Handled, keeping
from pgpubsub_sql.errors import NotReadyYet
from pgpubsub_sql.migrations_ops.maintenance import follow_declarations
from pgpubsub_sql.migrations_ops.shared_faults import find_faults, repair_faults
from pgpubsub_sql.sql.own_tables import SLOTS
from pgpubsub_sql.sql.privileges import missing_privileges
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job, Step
from tests.conftest import Listen, eventually
from tests.delivery.sending import drain, jobs
from tests.kept import kept_by, scatter
from tests.ledger import numbers, sql, stranger

pytestmark = pytest.mark.django_db(transaction=True)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let days pass: for the worker's clock, and for what is kept."""
    passed = [0.0]
    now = keeping.time.time
    monkeypatch.setattr(keeping.time, "time", lambda: now() + passed[0] * DAY.total_seconds())

    def advance(days: float) -> None:
        passed[0] += days
        sql(
            "UPDATE pgpubsub_sql_history SET kept_until = kept_until - %s * interval '1 day',"
            " handled_at = handled_at - %s * interval '1 day'",
            days,
            days,
        )

    return advance


def slots() -> dict[int, list[int]]:
    """Return the numbers of the messages in each partition that has a page."""
    rows = sql("SELECT slot, (payload->>'number')::integer FROM pgpubsub_sql_handled ORDER BY 2")
    found: dict[int, list[int]] = {}
    for slot, number in rows:
        found.setdefault(slot, []).append(number)
    return found


def sizes() -> int:
    """Return how many bytes the partitions have."""
    ((size,),) = sql(
        "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits"
        " WHERE inhparent = 'pgpubsub_sql_history'::regclass"
    )
    return int(size)


def handle(delivery: Delivery, number: int) -> None:
    sql("SELECT pgpubsub_notify('app.Job', jsonb_build_object('number', %s))", number)
    drain(delivery)


def test_a_ring_of_days_is_emptied_behind_what_is_kept(
    delivery: Delivery, clock: Callable[[float], None]
) -> None:
    """Through every slot and beyond: each day's messages go after their week, and none before."""
    for day in range(SLOTS + 10):
        handle(delivery, day)
        delivery.forget()
        left = sorted(number for found in slots().values() for number in found)
        assert left == list(range(max(0, day - 6), day + 1))
        assert len(slots()) == len(left)
        clock(1)
    clock(7)
    for left in range(len(slots()) - 1, -1, -1):  # one at a time, so that messages are handled
        assert delivery.forget()
        assert len(slots()) == left
    assert not delivery.forget()
    assert not Handled.objects.exists()
    assert sizes() == 0


@pytest.mark.parametrize(
    ("longest", "days"),
    [(1, 1), (7, 1), (28, 1), (29, 2), (56, 2), (57, 3), (365, 14)],
)
def test_what_is_kept_for_longest_fits_into_the_slots(
    monkeypatch: pytest.MonkeyPatch, longest: int, days: int
) -> None:
    """The slot of now is never that of what is kept until the end, or of what was just before."""
    monkeypatch.setattr(Job, "keep", longest * DAY)
    monkeypatch.setattr(Step, "keep", DAY / 24)
    monkeypatch.setattr(keeping, "longest_keep", lambda: longest * DAY)
    assert keeping.slot_days() == days
    for day in range(0, 32 * days, days):
        monkeypatch.setattr(keeping.time, "time", lambda day=day: day * DAY.total_seconds() + 5)
        first, last = keeping.keeping(Step)["slot"], keeping.keeping(Job)["slot"]
        assert 0 <= first < SLOTS
        assert 0 < (last - first) % SLOTS <= 29 or longest == 1
    monkeypatch.setattr(keeping, "longest_keep", lambda: None)
    assert keeping.slot_days() == 1


def test_a_partition_with_one_message_to_keep_stays_whole(
    delivery: Delivery, clock: Callable[[float], None]
) -> None:
    """Other channels of the day may keep theirs for longer."""
    jobs("good", "good")
    drain(delivery)
    clock(7.5)
    scatter()
    sql(
        "UPDATE pgpubsub_sql_history SET kept_until = clock_timestamp() + interval '1 minute'"
        " WHERE payloads[1]->'number' = '1'"
    )
    delivery.forget()
    assert Handled.objects.count() == 2


@pytest.fixture
def expired(delivery: Delivery, clock: Callable[[float], None]) -> None:
    """Something that is to be deleted, and something that is not, in another partition."""
    handle(delivery, 1)
    clock(8)
    handle(delivery, 2)
    assert len(slots()) == 2


@pytest.mark.usefixtures("expired")
def test_a_long_reader_delays_it_and_nobody_waits(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup reads all partitions in a transaction: it goes on, and so does a worker."""
    caplog.set_level(logging.INFO, logger="pgpubsub_sql.worker")
    with stranger() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM pgpubsub_sql_handled")
        assert reader.fetchone() == (2,)
        delivery.forget()
        assert "of the history is to be emptied, but something has locked it" in caplog.text
        assert "another worker" in caplog.text
        handle(delivery, 3)
        reader.execute("SELECT count(*) FROM pgpubsub_sql_handled")
        assert reader.fetchone() == (2,)
        reader.execute("COMMIT")
    delivery.forget()
    assert "Emptied partition" in caplog.text
    assert [row.payload["number"] for row in Handled.objects.order_by("id")] == [2, 3]


@pytest.mark.usefixtures("expired")
def test_a_worker_handles_while_a_partition_waits_to_be_emptied(delivery: Delivery) -> None:
    """And while another has an open transaction that has written to the history."""
    with stranger() as other, stranger() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pgpubsub_sql_handled")
        # Without the limit of the function it waits for as long as the reader takes.
        ((old,),) = sql("SELECT min(slot) FROM pgpubsub_sql_handled WHERE kept_until < now()")
        emptying = threading.Thread(
            target=other.execute, args=(f"TRUNCATE pgpubsub_sql_history_{old}",)
        )
        emptying.start()
        eventually(
            lambda: sql("SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'")
        )
        sql("SET statement_timeout = '10s'")
        handle(delivery, 3)
        jobs("bad")
        drain(delivery)  # which corrects
        sql("RESET statement_timeout")
        reader.execute("COMMIT")
        emptying.join()
    assert 3 in numbers("do_job")


ANOTHER = kept_by(slot="%s", id="9", channel="'app.Job'", payload="'9'::jsonb")


@pytest.mark.usefixtures("expired")
def test_what_a_worker_of_another_version_writes_meanwhile_is_kept() -> None:
    """Its slots may be others. It commits between the first look and the second."""
    ((old,),) = sql("SELECT min(slot) FROM pgpubsub_sql_handled WHERE kept_until < now()")
    sql("ALTER FUNCTION pgpubsub_forget_v1(integer) SET lock_timeout = '60s'")
    results: list[Any] = []
    with stranger() as other, stranger() as worker:

        def forget() -> None:
            worker.execute(f"SELECT pgpubsub_forget_v1({old})")
            results.extend(worker.fetchall())

        other.execute("BEGIN")
        other.execute(ANOTHER, [old])
        emptying = threading.Thread(target=forget)
        emptying.start()
        eventually(lambda: sql("SELECT 1 FROM pg_locks WHERE NOT granted AND mode ^@ 'ShareRow'"))
        other.execute("COMMIT")
        emptying.join()
    sql("ALTER FUNCTION pgpubsub_forget_v1(integer) SET lock_timeout = '100ms'")
    assert results == [(False,)]
    assert Handled.objects.filter(pk=9).exists()


@pytest.mark.usefixtures("expired")
def test_above_read_committed_nothing_is_emptied() -> None:
    """The second look would see the past."""
    with stranger() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(connection.Database.Error, match="READ COMMITTED transactions only"):
            other.execute("SELECT pgpubsub_forget_v1(0)")


@pytest.mark.usefixtures("expired")
def test_a_running_worker_empties_partitions(listen: Callable[..., Listen]) -> None:
    listener = listen("--channels", "app.Step").ready()
    eventually(lambda: Handled.objects.count() == 1)
    assert listener.stop() == 0
    assert "Emptied partition" in listener.log


@pytest.mark.usefixtures("expired")
def test_a_partition_that_somebody_has_detached_stays(delivery: Delivery) -> None:
    """It may be an archive. `install` attaches it again, as a claim might need it."""
    ((old,),) = sql("SELECT min(slot) FROM pgpubsub_sql_handled WHERE kept_until < now()")
    name = f"pgpubsub_sql_history_{old}"
    sql(f"ALTER TABLE pgpubsub_sql_history DETACH PARTITION {name}")
    assert sql(f"SELECT pgpubsub_forget_v1({old})") == [(False,)]
    delivery.forget()
    assert sql(f"SELECT count(*) FROM {name}") == [(1,)]
    (fault,) = find_faults(connection, "public")
    assert fault.text == "The table pgpubsub_sql_history has 31 of the 32 partitions that it needs"
    follow_declarations("default")
    assert find_faults(connection, "public") == []
    assert Handled.objects.count() == 2


@pytest.fixture
def without_partitions(delivery: Delivery) -> Iterator[None]:
    """A database on which `migrate` has not run since the first channel keeps something."""
    for slot in range(SLOTS):
        sql(f"DROP TABLE pgpubsub_sql_history_{slot}")
    yield
    follow_declarations("default")


@pytest.mark.usefixtures("without_partitions")
def test_a_worker_says_that_migrate_has_to_make_room_first() -> None:
    with pytest.raises(NotReadyYet, match=r"app\.Step keeps its messages, .*manage\.py migrate"):
        Worker([Step])._check_database()
    assert len(find_faults(connection, "public")) == 1
    follow_declarations("default")
    Worker([Step])._check_database()
    assert find_faults(connection, "public") == []


@pytest.mark.usefixtures("expired")
def test_a_worker_that_may_not_empty_partitions_says_so_once(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    sql("CREATE ROLE forgetful")
    sql("GRANT USAGE ON SCHEMA public TO forgetful")
    try:
        sql("SET ROLE forgetful")
        delivery.forget()
        delivery.forget()
    finally:
        sql("RESET ROLE")
        sql("DROP OWNED BY forgetful; DROP ROLE forgetful")
    (record,) = [one for one in caplog.records if "history" in one.getMessage()]
    assert record.levelno == logging.WARNING
    assert "GRANT EXECUTE ON FUNCTION public.pgpubsub_forget_v1(integer) TO forgetful;" in (
        record.getMessage()
    )
    assert Handled.objects.count() == 2


def test_a_worker_that_may_not_keep_does_not_begin(delivery: Delivery) -> None:
    role = "keepless"
    sql(f"CREATE ROLE {role}")
    sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    sql(f"REVOKE INSERT ON pgpubsub_sql_history FROM {role}")
    sql(f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO {role}")
    sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    try:
        sql(f"SET ROLE {role}")
        with pytest.raises(Exception, match=r"lacks .*INSERT on public\.pgpubsub_sql_history"):
            Worker([Step])._check_database()
    finally:
        sql("RESET ROLE")
        sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_verify_says_that_the_function_has_to_own_the_table(
    transactional_db: None, delivery: Delivery
) -> None:
    """A GRANT on the table does not hold for its partitions."""
    ((owner,),) = sql("SELECT current_user")
    sql("CREATE ROLE former")
    sql("GRANT ALL ON SCHEMA public TO former")
    sql("GRANT ALL ON pgpubsub_sql_history TO former")
    sql("ALTER FUNCTION pgpubsub_forget_v1(integer) OWNER TO former")
    try:
        (missing,) = missing_privileges(connection, [], helpers="public")
        assert "pgpubsub_forget_v1, that runs as the role 'former'" in missing.text
        assert "lacks OWNERSHIP on public.pgpubsub_sql_history" in missing.text
        (statement,) = missing.statements
        assert "ALTER FUNCTION public.pgpubsub_forget_v1(integer) OWNER TO" in statement
        assert missing.is_ours_to_give
        sql(statement)
        assert missing_privileges(connection, [], helpers="public") == []
    finally:
        sql(f"ALTER FUNCTION pgpubsub_forget_v1(integer) OWNER TO {owner}")
        sql("DROP OWNED BY former; DROP ROLE former")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("DROP VIEW pgpubsub_sql_handled", "is missing"),
        (
            "DROP VIEW pgpubsub_sql_handled;"
            "CREATE VIEW pgpubsub_sql_handled AS SELECT slot, batch FROM pgpubsub_sql_history",
            "has other columns",
        ),
    ],
)
def test_the_view_of_the_history_is_repaired(change: str, what: str) -> None:
    sql(change)
    (fault,) = find_faults(connection, "public")
    assert fault.text == f"The view pgpubsub_sql_handled {what}"
    repair_faults(connection, "public", [fault])
    assert not find_faults(connection, "public")
    assert not Handled.objects.exists()
