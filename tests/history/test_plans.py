"""What PostgreSQL does for our queries with hundreds of thousands of kept messages."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from pgpubsub_sql import Handled
from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.handled import SURPLUS
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.claims import CLAIM_BYTES, statement
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.history import History, correction
from tests.app.channels import Job, Step
from tests.delivery.plans import explained
from tests.delivery.sending import jobs
from tests.ledger import sql

pytestmark = pytest.mark.django_db(transaction=True)
KEPT = 300_000
ROWS = f"""
INSERT INTO pgpubsub_sql_handled (
    slot, id, channel, subscription, message, payload, created_at, handled_at, kept_until, outcome,
    attempts
)
SELECT number * 3 / ({KEPT} + 1), number, 'plans.' || number % 5, '', number, '{{"number": 1}}',
    to_timestamp(number), now() - interval '1 hour' - ({KEPT} - number) * interval '1 ms',
    now() + (number - 100001) * interval '1 s', 'handled', 0
FROM generate_series(1, {KEPT}) AS number
"""
"""Three partitions; in the first, nothing is to be kept any longer. All were handled within five
minutes, an hour ago."""


@pytest.fixture
def many(delivery: Delivery) -> Iterator[None]:
    sql(ROWS)
    sql("VACUUM (ANALYZE) pgpubsub_sql_handled")
    yield
    sql("TRUNCATE pgpubsub_sql_handled")


def scans(text: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a statement reads of the history; undo it."""
    with transaction.atomic():
        nodes = explained(text, parameters)
        transaction.set_rollback(True)
    return [
        one
        for one in nodes
        if "sql_handled" in one.get("Relation Name", "") and one["Node Type"] != "ModifyTable"
    ]


def read(node: dict[str, Any]) -> float:
    return float(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    )


@pytest.mark.usefixtures("many")
def test_no_statement_of_a_batch_searches_the_history(delivery: Delivery) -> None:
    """A claim only adds to it."""
    jobs(*["good"] * 100)
    history = History(Job, delivery.session)
    start = {"keyless": False, "after": "-infinity", "after_id": 0, "limit": 500}
    values = {**start, "bytes": CLAIM_BYTES, **Lane("app.Job")._asdict(), **history.begin()}
    take = statement("take", ClaimFilter(), history.copying)
    assert "INSERT INTO pgpubsub_sql_handled" in take
    assert scans(take, values) == []
    chosen = {"keys": ["a"], "alone": False, "limit": 500, "bytes": CLAIM_BYTES}
    keyed = statement("take_ordered", ClaimFilter(), History(Step, delivery.session).copying)
    assert scans(keyed, chosen | Lane("app.Step")._asdict() | history.begin()) == []


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("slot", [2, 3])
def test_a_correction_looks_up_its_rows(delivery: Delivery, slot: int) -> None:
    """Also in a partition of which PostgreSQL knows nothing yet."""
    sql(f"UPDATE pgpubsub_sql_handled SET slot = {slot} WHERE slot = 2")
    ids = [200_001 + 5 * number for number in range(400)]
    values = {
        "slot": slot,
        "channel": "plans.1",
        "messages": ids,
        "ids": ids,
        "created": [datetime.datetime.fromtimestamp(one, datetime.UTC) for one in ids],
        "outcomes": ["handled"] * 400,
        "reasons": [""] * 400,
        "durations": [None] * 400,
    }
    for name in ("unkeep", "correct_kept"):
        found = scans(correction(name), values)
        assert {one["Relation Name"] for one in found} == {f"pgpubsub_sql_handled_{slot}"}
        for one in found:
            assert one["Node Type"] != "Seq Scan"
            assert read(one) == 400


def read_by(call: Callable[[], object]) -> list[float]:
    """Return how many rows of the history each statement reads that *call* executes."""
    found: list[float] = []

    def explain(execute: Any, text: str, values: Any, many: bool, context: Any) -> Any:
        if "sql_handled" in text and "EXPLAIN" not in text:
            found.append(sum(map(read, scans(text, values))))
        return execute(text, values, many, context)

    with connection.execute_wrapper(explain):
        call()
    return found


@pytest.mark.usefixtures("many")
def test_the_newest_are_found_after_a_pause() -> None:
    """Although all 300,000 were handled between 1,024 and 4,096 seconds ago."""
    every = Handled.objects.all()
    found: list[int] = []
    of_each = read_by(lambda: found.extend(one.pk for one in every.newest(51)[:51]))
    assert found == list(range(KEPT, KEPT - 51, -1))
    assert max(of_each) <= 51 + SURPLUS
    assert sum(of_each) < KEPT / 2, of_each


@pytest.mark.usefixtures("many")
def test_the_newest_are_not_looked_for_before_the_time_that_is_asked_for() -> None:
    """One that has kept nothing in it is counted up to there once, and then listed."""
    since = timezone.now() - datetime.timedelta(hours=2)
    rows = Handled.objects.filter(subscription="none", handled_at__gte=since)
    of_each = read_by(lambda: list(rows.newest(51, since=since)))
    assert len([one for one in of_each if one]) == 3  # 4,096 s, two hours, and the list


@pytest.mark.usefixtures("many")
def test_a_replay_goes_through_an_index() -> None:
    """A page of 60,000 messages reads no more than a page."""
    found: list[dict[str, Any]] = []

    def explain(execute: Any, text: str, values: Any, many: bool, context: Any) -> Any:
        if "sql_handled" in text and "count(" not in text.lower() and "EXPLAIN" not in text:
            found.extend(scans(text, values))
        return execute(text, values, many, context)

    def stop(sent: int, number: int) -> None:
        raise InterruptedError

    with connection.execute_wrapper(explain), pytest.raises(InterruptedError):
        Handled.objects.filter(channel="plans.0").replay(progress=stop)
    assert found
    for one in found:
        assert one["Node Type"] != "Seq Scan" or read(one) == 0
        assert read(one) <= 1100, one


@pytest.mark.usefixtures("many")
def test_a_step_of_filling_goes_through_an_index() -> None:
    """Of 60,000 messages it reads no more than it copies."""
    lane = Lane("plans.0", "search")
    sql(
        "INSERT INTO pgpubsub_sql_subscription (channel, name, filled_to, fill_until)"
        " VALUES (%s, %s, 50000, 300000)",
        *lane,
    )
    try:
        bounds = {"filled_to": 50_000, "fill_until": KEPT}
        found = scans(query("fill"), lane._asdict() | bounds | {"limit": 1000})
    finally:
        sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = 'plans.0'")
    assert sum(map(read, found)) > 0
    for one in found:
        assert one["Node Type"] != "Seq Scan" or read(one) == 0
        assert read(one) <= 1100, one


@pytest.mark.usefixtures("many")
def test_retention_looks_into_an_index(delivery: Delivery) -> None:
    """The very text that the function executes, with its setting: it reads a part of the pages."""
    look = "SELECT EXISTS (SELECT FROM {} WHERE kept_until > statement_timestamp())"
    ((source,),) = sql("SELECT prosrc FROM pg_proc WHERE proname = 'pgpubsub_forget_v1'")
    assert source.count(look.format("%s")) == 2
    sql("SET enable_seqscan = off")
    try:
        for slot in range(3):
            for one in scans(look.format(f"pgpubsub_sql_handled_{slot}"), {}):
                assert one["Node Type"] == "Bitmap Heap Scan"
                assert read(one) <= 20_000
    finally:
        sql("RESET enable_seqscan")
    delivery.forget()
    slots = Handled.objects.order_by().values_list("slot", flat=True).distinct()
    assert sorted(slots) == [1, 2]
