"""How much is taken at a time, from where on, and what is given back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from pgpubsub_sql import notify
from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import batch, claims
from pgpubsub_sql.worker.batch import BATCH_SAVEPOINTS, LARGEST_BATCH
from pgpubsub_sql.worker.claims import LONGEST_RESTART_SECONDS
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job
from tests.app.listeners import called
from tests.delivery.channels import LoneJob
from tests.delivery.plans import explained
from tests.delivery.sending import drain, jobs
from tests.ledger import calls, numbers, sql, stored, stranger

pytestmark = pytest.mark.django_db(transaction=True)


def test_messages_not_reached_are_released_and_rung_for(delivery: Delivery) -> None:
    """Another worker hears of it at once, not at its next safety look."""
    jobs(*["good"] * 5)
    before = {number: (row.id, row.available_at, row.attempts) for number, row in stored().items()}
    delivery.is_stopping = lambda: len(calls("do_job")) == 2
    with stranger() as other:
        other.execute('LISTEN "app.Job"')
        delivery.handle_stored("app.Job")
        assert numbers("do_job") == [1, 2]
        other.execute("SELECT 1")
        after = {n: (row.id, row.available_at, row.attempts) for n, row in stored().items()}
        assert after == {n: before[n] for n in (3, 4, 5)}
        assert heard_by(other.connection) == ["app.Job"]


def heard_by(raw: object) -> list[str]:
    """Return the channels of what a driver's connection has heard."""
    if hasattr(raw, "poll"):
        raw.poll()
        return [notify.channel for notify in raw.notifies]
    return [notify.channel for notify in raw.notifies(timeout=0)]  # type: ignore[attr-defined]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, no batch ends, and no search restarts, because time is over."""
    monkeypatch.setattr(batch, "BATCH_SECONDS", 60)
    monkeypatch.setattr(claims, "RESTART_SECONDS", 60)


def test_a_batch_ends_when_its_time_is_over(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH_SECONDS", 1e-9)
    jobs(*["good"] * 5)
    assert delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1]
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("unhurried")
def test_batches_grow_while_handling_is_quick(delivery: Delivery) -> None:
    jobs(*["good"] * 40)
    sizes = []
    while delivery.handle_stored("app.Job"):
        sizes.append(len(calls("do_job")) - sum(sizes))
    assert sizes == [10, 20, 10]
    assert LARGEST_BATCH > 20


def test_a_short_batch_does_not_shrink_the_next(delivery: Delivery) -> None:
    delivery.handle_stored("app.Job")
    jobs(*["good"] * 8)
    delivery.handle_stored("app.Job")
    assert len(numbers("do_job")) == 8


@pytest.fixture
def impatience() -> Iterator[None]:
    """Waiting for a lock is an error: nothing interrupts a driver that waits."""
    sql("SET lock_timeout = '5s'")
    yield
    sql("RESET lock_timeout")


@pytest.mark.usefixtures("impatience")
def test_rows_in_flight_elsewhere_are_skipped(delivery: Delivery) -> None:
    jobs("good", "good", "good")
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("DELETE FROM pgpubsub_sql_notification WHERE payload->'number' = '1'")
        drain(delivery)
        assert numbers("do_job") == [2, 3]
        other.execute("ROLLBACK")
    drain(delivery)
    assert numbers("do_job") == [2, 3, 1]


@pytest.mark.usefixtures("impatience")
def test_looking_ahead_sees_past_rows_in_flight_elsewhere(delivery: Delivery) -> None:
    jobs("good", "good")
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp() + interval '1 h'"
        " WHERE payload->'number' = '2'"
    )
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM pgpubsub_sql_notification ORDER BY id LIMIT 1 FOR UPDATE")
        assert not delivery.handle_stored("app.Job")
        assert delivery.next_ready()[Lane("app.Job")] <= 0  # it came since: look once more
        assert not delivery.handle_stored("app.Job")
        assert 3500 < delivery.next_ready()[Lane("app.Job")] <= 3600  # and only once


def test_looking_ahead_sees_what_became_ready_since_the_last_poll(delivery: Delivery) -> None:
    delivery.next_ready()
    assert not delivery.handle_stored("app.Job")
    jobs("good")
    assert delivery.next_ready()[Lane("app.Job")] <= 0
    drain(delivery)
    assert numbers("do_job") == [1]
    assert delivery.next_ready() == {}


@pytest.mark.usefixtures("unhurried")
def test_a_batch_ends_before_64_savepoints(delivery: Delivery) -> None:
    """Those of listeners count, too: beyond 64 PostgreSQL gets slow, for everybody."""
    jobs(*["good"] * 200)
    delivery._states[Lane("app.Job")].sizing._size = 200
    assert delivery.handle_stored("app.Job")
    assert len(called) == BATCH_SAVEPOINTS
    assert delivery.handle_stored("app.Job")
    assert len(called) == 2 * BATCH_SAVEPOINTS
    drain(delivery)
    called.clear()
    jobs(*["caught"] * 60)
    assert delivery.handle_stored("app.Job")
    assert len(called) < BATCH_SAVEPOINTS


@pytest.mark.usefixtures("unhurried")
def test_a_batch_size_that_fits_is_kept(delivery: Delivery) -> None:
    """What is taken and given back again and again costs more than it brings."""
    jobs(*["good"] * 400)
    given_back = []
    while delivery.handle_stored("app.Job"):
        given_back.append(sql("SELECT count(*) FROM pgpubsub_sql_notification")[0][0])
    sizes = [400 - given_back[0], *(a - b for a, b in pairwise(given_back))]
    assert sizes == [10, 20, 40, *[60] * 5, 30]


def test_batch_size_bounds_the_batches_of_a_channel(delivery: Delivery) -> None:
    jobs(*["good"] * 3, channel=LoneJob)
    for done in (1, 2, 3):
        delivery.handle_stored(LoneJob.postgres_name())
        assert len(called) == done


@pytest.mark.usefixtures("unhurried")
def test_a_message_to_be_alone_shares_no_transaction(delivery: Delivery) -> None:
    """It comes first; and the others are taken as many at a time as before."""
    jobs(*["good"] * 30)
    delivery._states[Lane("app.Job")].sizing._size = 20
    sql("UPDATE pgpubsub_sql_notification SET alone = payload->'number' IN ('3', '4')")
    done = []
    while delivery.handle_stored("app.Job"):
        done.append(len(called))
    assert done == [1, 2, 22, 30]
    assert called == [3, 4, 1, 2, *range(5, 31)]


# --- Where a look begins


def test_claims_continue_at_the_low_water_mark(delivery: Delivery) -> None:
    """The low-water mark: what a long transaction keeps in the index is passed over once."""
    jobs(*["quiet"] * 40)
    delivery.handle_stored("app.Job")
    behind = "UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01' WHERE id = %s"
    sql(behind, max(row.id for row in stored().values()))
    delivery.handle_stored("app.Job")
    assert called == list(range(1, 31))


def test_messages_behind_the_mark_are_found_before_sleeping(delivery: Delivery) -> None:
    jobs(*["quiet"] * 10)
    delivery.handle_stored("app.Job")
    jobs("quiet")
    sql("UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01'")
    assert delivery.handle_stored("app.Job")
    assert len(called) == 10
    assert not delivery.handle_stored("app.Job")
    assert len(called) == 11


def test_messages_behind_the_mark_are_found_within_a_second(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long there is something in front of it."""
    jobs(*["quiet"] * 40)
    delivery.handle_stored("app.Job")
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01' WHERE id = %s",
        stored()[40].id,
    )
    monkeypatch.setattr(claims, "RESTART_SECONDS", 0.0)
    delivery.handle_stored("app.Job")
    assert called[10] == 40


def test_released_messages_are_claimed_next_and_nothing_before_them_is_read(
    delivery: Delivery,
) -> None:
    jobs(*["quiet"] * 30)
    delivery.handle_stored("app.Job")
    delivery.is_stopping = lambda: len(called) == 12
    delivery.handle_stored("app.Job")
    delivery.is_stopping = lambda: False
    behind = "UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01' WHERE id = %s"
    sql(behind, stored()[30].id)
    delivery.handle_stored("app.Job")
    assert called == list(range(1, 15))


class Clock:
    """Stands for the module ``time``, in a world where a search from the start takes 63 ms."""

    def __init__(self, delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.restarts: list[float] = []
        """Times of the searches from the start."""
        self._execute = delivery.session.execute
        monkeypatch.setattr(delivery.session, "execute", self.execute)
        monkeypatch.setattr(claims, "time", self)

    def monotonic(self) -> float:
        return self.now

    def execute(self, name: str, parameters: Any = None, *, text: str | None = None) -> Any:
        if name == "take":
            is_restart = parameters["after"] == "-infinity"
            self.restarts += [self.now] * is_restart
            self.now += 0.063 if is_restart else 0.001
        return self._execute(name, parameters, text=text)


def test_searches_from_the_start_take_less_than_a_hundredth_of_the_time(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They step over every dead row, and messages that trickle in would each need some."""
    clock = Clock(delivery, monkeypatch)
    while len(clock.restarts) < 2:  # it learns what they take
        jobs("quiet")
        delivery.handle_stored("app.Job", thorough=False)
    started, before = clock.now, len(clock.restarts)
    while clock.now < started + 60:
        jobs("quiet")
        assert delivery.handle_stored("app.Job", thorough=False) in (True, False)
        clock.now += 0.5
    looks = len(clock.restarts) - before
    assert len(called) > 100
    assert 0 < looks * 0.063 / 60 <= 0.008


def test_one_search_that_was_held_up_spaces_no_others(delivery: Delivery) -> None:
    jobs("quiet")
    drain(delivery)
    restarts = delivery._states[Lane("app.Job")].claims._restarts  # type: ignore[attr-defined]
    restarts._took.extend([0.0, 3600.0])
    assert restarts.is_due(is_urgent=True)
    restarts._took.append(3600.0)
    assert not restarts.is_due(is_urgent=True)


def test_what_stands_before_the_mark_is_found_within_ten_seconds(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to search from the start."""
    clock = Clock(delivery, monkeypatch)
    jobs("quiet")
    drain(delivery)
    restarts = delivery._states[Lane("app.Job")].claims._restarts  # type: ignore[attr-defined]
    restarts._took.extend([3600.0] * 2)
    jobs("late")
    sql("UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01'")
    committed = clock.now
    while len(called) < 2:
        delivery.handle_stored("app.Job", thorough=False)
        clock.now += 0.5
    assert 5 < clock.now - committed <= LONGEST_RESTART_SECONDS + 1


def test_a_look_that_must_miss_nothing_is_made_whatever_it_takes(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doorbell's protocol demands it before a worker sleeps."""
    Clock(delivery, monkeypatch)
    jobs("quiet")
    drain(delivery)
    restarts = delivery._states[Lane("app.Job")].claims._restarts  # type: ignore[attr-defined]
    restarts._took.extend([3600.0] * 2)
    jobs("late")
    sql("UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01'")
    assert not delivery.handle_stored("app.Job", thorough=False)
    assert delivery.look({Lane("app.Job"): False})[Lane("app.Job")] == math.inf
    assert not delivery.is_rested(Lane("app.Job"))
    assert delivery.look({Lane("app.Job"): True})[Lane("app.Job")] <= 0
    delivery.handle_stored("app.Job", thorough=True)
    assert len(called) == 2


def test_one_look_asks_for_all_channels(delivery: Delivery) -> None:
    jobs("quiet")
    jobs("quiet", channel=LoneJob)
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp() + interval '1 h'"
        " WHERE channel = 'app.Job'"
    )
    sql("UPDATE pgpubsub_sql_notification SET alone = true WHERE channel <> 'app.Job'")
    with CaptureQueriesContext(connection) as queries:
        found = delivery.look(dict.fromkeys(delivery.lanes, True))
    assert len(queries) == 1
    assert 3500 < found.pop(Lane("app.Job")) <= 3600
    assert found.pop(Lane(LoneJob.postgres_name())) <= 0
    assert set(found.values()) == {math.inf}


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
def test_a_look_bears_any_time(delivery: Delivery, moment: str) -> None:
    jobs("quiet")
    sql("UPDATE pgpubsub_sql_notification SET available_at = %s", moment)
    seconds = delivery.look({Lane("app.Job"): True})[Lane("app.Job")]
    assert seconds == (86400 if moment == "infinity" else -86400)


@pytest.mark.parametrize("after", ["-infinity", "the middle"])
def test_a_claim_reads_the_index_and_only_what_it_claims(delivery: Delivery, after: str) -> None:
    """P6: among 100,000 of its channel and as many of another, it reads what it takes."""
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, payload)"
        " SELECT channel, '{\"number\": 1}' FROM generate_series(1, 100000),"
        " unnest(ARRAY['app.Job', 'app.Shout']) AS channel"
    )
    sql("ANALYZE pgpubsub_sql_notification")
    ((middle,),) = sql(
        "SELECT available_at FROM pgpubsub_sql_notification WHERE channel = 'app.Job'"
        " ORDER BY id OFFSET 50000 LIMIT 1"
    )
    parameters = {
        **Lane("app.Job")._asdict(),
        "keyless": False,
        "limit": LARGEST_BATCH,
        "bytes": claims.CLAIM_BYTES,
        "after": middle if after == "the middle" else after,
        "after_id": 0,
    }
    nodes = explained(claims.statement("take", ClaimFilter().text), parameters)
    nodes = [one for one in nodes if "subscription" not in one.get("Relation Name", "")]
    nodes = [one for one in nodes if "subscription" not in one.get("Index Name", "")]
    assert {one["Index Name"] for one in nodes if "Index Name" in one} == {"pgpubsub_sql_available"}
    assert "Seq Scan" not in {one["Node Type"] for one in nodes}
    assert max(one["Actual Rows"] * one["Actual Loops"] for one in nodes) == LARGEST_BATCH


def test_batches_are_small_so_that_other_sessions_see_progress(delivery: Delivery) -> None:
    """P11: in the peer recovery is one transaction, and a crash rolls all of it back."""
    jobs(*["quiet"] * 100)
    delivery.handle_stored("app.Job")
    with stranger() as other:
        other.execute("SELECT count(*) FROM pgpubsub_sql_notification")
        assert other.fetchall() == [(90,)]


def test_messages_of_one_transaction_are_handled_in_order(delivery: Delivery) -> None:
    """P16: in the peer the time of a transaction orders, equal for all that it wrote."""
    with transaction.atomic():
        for number in range(1, 50):
            notify(Job(number=number, mood="quiet"))
    sql("UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01'")
    sql("ALTER SEQUENCE pgpubsub_sql_notification_id_seq RESTART WITH 3000000000")
    jobs("quiet")
    sql("UPDATE pgpubsub_sql_notification SET available_at = '2000-01-01'")
    drain(delivery)
    assert called == [*range(1, 50), 1]
