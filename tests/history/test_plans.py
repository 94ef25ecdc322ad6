"""What PostgreSQL does for our queries with hundreds of thousands of kept messages."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from django.db import connection, transaction

from pgpubsub_sql import Handled
from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.handled import PAGE, HandledQuerySet
from pgpubsub_sql.keeping import keeping
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.own_tables import BUCKET_BITS, HANDLED_COLUMNS
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.claims import CLAIM_BYTES, statement
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.history import CORRECTING, History
from tests.app.channels import Job, Step
from tests.delivery.plans import explained
from tests.delivery.sending import jobs
from tests.kept import keep, kept_by
from tests.ledger import sql

pytestmark = pytest.mark.django_db(transaction=True)
KEPT = 300_000
BUCKET = 1 << BUCKET_BITS
BATCH = 20
ROWS = kept_by(
    f"FROM generate_series(1, {KEPT}) AS number",
    size=5 * BATCH,
    slot=f"number * 3 / ({KEPT} + 1)",
    id="number",
    channel="'plans.' || number % 5",
    handled_at=f"now() - interval '1 hour' - ({KEPT} - number) * interval '1 ms'",
    kept_until="now() + (number - 100001) * interval '1 s'",
)
"""Three partitions; in the first, nothing is to be kept any longer. All were handled within five
minutes, an hour ago."""


@pytest.fixture
def many(delivery: Delivery) -> Iterator[None]:
    sql(ROWS)
    sql("VACUUM (ANALYZE) pgpubsub_sql_history")
    yield
    sql("TRUNCATE pgpubsub_sql_history")


def scans(text: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a statement reads of the history; undo it."""
    with transaction.atomic():
        nodes = explained(text, parameters)
        transaction.set_rollback(True)
    return [
        one
        for one in nodes
        if "sql_history" in one.get("Relation Name", "") and one["Node Type"] != "ModifyTable"
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
    take = statement("take", ClaimFilter().text, history.kept)
    assert "INSERT INTO pgpubsub_sql_history" in take
    assert scans(take, values) == []
    chosen = {"keys": ["a"], "alone": False, "limit": 500, "bytes": CLAIM_BYTES}
    keyed = statement("take_ordered", ClaimFilter().text, History(Step, delivery.session).kept)
    assert scans(keyed, chosen | Lane("app.Step")._asdict() | history.begin()) == []


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("slot", [2, 3])
def test_a_correction_looks_up_its_batch(slot: int) -> None:
    """Also in a partition of which PostgreSQL knows nothing yet."""
    sql(f"UPDATE pgpubsub_sql_history SET slot = {slot} WHERE slot = 2")
    ((batch, ids),) = sql(
        f"SELECT batch, ids FROM pgpubsub_sql_history WHERE slot = {slot} LIMIT 1"
    )
    values = keeping(Job) | {
        "slot": slot,
        "batch": batch,
        "ids": ids,
        "outcomes": ["handled"] * len(ids),
        "reasons": [""] * len(ids),
        "durations": [None] * len(ids),
    }
    (found,) = scans(CORRECTING, values)
    assert found["Relation Name"] == f"pgpubsub_sql_history_{slot}"
    assert found["Node Type"] != "Seq Scan"
    assert read(found) == 1


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


CHOICES: dict[str, HandledQuerySet] = {
    "all": Handled.objects.all(),
    "a channel": Handled.objects.filter(channel="plans.0"),
    "no such channel": Handled.objects.filter(channel="plans"),
    "a rare outcome": Handled.objects.all().with_outcome("discarded"),
}


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("choice", CHOICES)
def test_the_newest_are_read_in_the_order_of_an_index(choice: str) -> None:
    """Three batches; of each partition the first one, to see which is the newest; and one more."""
    rows = CHOICES[choice].all()
    found: list[datetime.datetime] = []
    of_each = read_by(lambda: found.extend(row.handled_at for row in rows.newest()[:51]))
    assert sum(of_each) <= 3 + 3 + 1, of_each
    expected = {"all": KEPT, "a channel": KEPT}.get(choice, 0)
    assert len(found) == min(51, expected)
    assert found == sorted(found, reverse=True)


@pytest.mark.usefixtures("many")
def test_messages_are_found_by_their_ids() -> None:
    ids = [7, 150_000, 299_999]
    found: list[int] = []
    of_each = read_by(lambda: found.extend(row.pk for row in Handled.objects.all().with_ids(ids)))
    assert sorted(found) == ids
    assert sum(of_each) <= 3 * BUCKET / BATCH * 1.3, of_each


def test_the_view_has_the_columns_of_its_model() -> None:
    """And the bucket of each message is its number without the last bits."""
    assert [field.column for field in Handled._meta.get_fields()] == list(HANDLED_COLUMNS)
    keep(id="70001", message="8193")
    (row,) = Handled.objects.all()
    assert (row.bucket, row.id_bucket) == (8193 >> BUCKET_BITS, 70001 >> BUCKET_BITS)


@pytest.mark.usefixtures("many")
def test_a_replay_goes_through_an_index() -> None:
    """It reads the batches that hold a page of 60,000 messages, however it looks at them."""

    def stop(sent: int, number: int) -> None:
        raise InterruptedError

    def replay() -> None:
        with pytest.raises(InterruptedError):
            Handled.objects.filter(channel="plans.0").replay(progress=stop)

    of_each = read_by(replay)
    assert of_each
    assert max(of_each) <= PAGE / BATCH + 2 * BUCKET / 5 / BATCH * 1.3, of_each


@pytest.mark.usefixtures("many")
def test_a_step_of_filling_goes_through_an_index() -> None:
    """Of 60,000 messages it reads the batches of those that it copies."""
    lane = Lane("plans.0", "search")
    sql(
        "INSERT INTO pgpubsub_sql_subscription (channel, name, filled_to, fill_until)"
        " VALUES (%s, %s, 50000, 300000)",
        *lane,
    )
    try:
        bounds = {"filled_to": 50_000, "fill_until": KEPT}
        found = scans(query("fill"), lane._asdict() | bounds | {"limit": PAGE})
    finally:
        sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = 'plans.0'")
    assert 0 < sum(map(read, found)) <= 2 * (PAGE / BATCH + 2 * BUCKET / 5 / BATCH * 1.3)
    for one in found:
        assert one["Node Type"] != "Seq Scan" or read(one) == 0


@pytest.mark.usefixtures("many")
def test_retention_looks_into_an_index(delivery: Delivery) -> None:
    """The very text that the function executes, with its setting: it reads a part of the pages."""
    look = "SELECT EXISTS (SELECT FROM {} WHERE kept_until > statement_timestamp())"
    ((source,),) = sql("SELECT prosrc FROM pg_proc WHERE proname = 'pgpubsub_forget_v1'")
    assert source.count(look.format("%s")) == 2
    sql("SET enable_seqscan = off")
    try:
        for slot in range(3):
            for one in scans(look.format(f"pgpubsub_sql_history_{slot}"), {}):
                assert one["Node Type"] == "Bitmap Heap Scan"
                assert read(one) <= 1
    finally:
        sql("RESET enable_seqscan")
    delivery.forget()
    slots = Handled.objects.order_by().values_list("slot", flat=True).distinct()
    assert sorted(slots) == [1, 2]
