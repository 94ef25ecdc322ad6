"""What PostgreSQL does for our queries at a million stored messages.

One connection makes the table and the rows in a transaction that it never commits. So what it
deletes stays in the indexes, as it does under anybody's open transaction, and nothing is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.own_tables import INDEXES, NOTIFICATION
from pgpubsub_sql.subscriptions import Lane, columns
from pgpubsub_sql.worker.batch import LARGEST_BATCH
from pgpubsub_sql.worker.claims import CLAIM_BYTES, statement
from tests.ledger import stranger

BIG, KEYED, PARKED = "app.Big", "app.Keyed", "app.Parked"
NAME = "mail"
"""The subscription of all messages."""
LANES = [
    Lane(channel, NAME)
    for channel in (BIG, KEYED, PARKED, *(f"small {number}" for number in range(100)))
]
MANY = columns([*LANES, *(Lane(f"empty {number}") for number in range(900))])

TABLE = """
CREATE SCHEMA plans;
SET LOCAL search_path = plans, public;
CREATE UNLOGGED TABLE plans.pgpubsub_sql_notification (
    LIKE public.pgpubsub_sql_notification INCLUDING DEFAULTS INCLUDING IDENTITY, PRIMARY KEY (id)
);
"""
ROWS = """
INSERT INTO pgpubsub_sql_notification (subscription, message, channel, payload, available_at, key)
SELECT
    'mail', n,
    CASE WHEN n <= 500000 THEN 'app.Big' WHEN n <= 700000 THEN 'app.Keyed'
        WHEN n <= 800000 THEN 'app.Parked' ELSE 'small ' || n %% 100 END,
    '{}',
    CASE WHEN n <= 700000 OR n > 800000 THEN now() - interval '1 day' + n * interval '1 ms' END,
    CASE WHEN n > 500000 AND n <= 700000 THEN '["' || n %% 1000 || '"]' END
FROM generate_series(1, 1000000) AS n
"""


class Plan(NamedTuple):
    """What a statement has done."""

    nodes: list[dict[str, Any]]

    @property
    def scans(self) -> set[str]:
        """Kinds of nodes that read a table."""
        return {one["Node Type"] for one in self.nodes if one.get("Relation Name") == NOTIFICATION}

    @property
    def rows(self) -> float:
        """Most rows that one node has returned or thrown away."""
        return max(
            (one["Actual Rows"] + one.get("Rows Removed by Filter", 0)) * one["Actual Loops"]
            for one in self.nodes
        )

    @property
    def buffers(self) -> int:
        """Number of pages that were read."""
        return int(self.nodes[0]["Shared Hit Blocks"] + self.nodes[0]["Shared Read Blocks"])


class Statement(NamedTuple):
    """A query of ours, and what it may cost."""

    text: str
    parameters: dict[str, Any]
    rows: int
    buffers: int


Explain = Callable[[Statement], Plan]


@pytest.fixture
def million(db: None) -> Iterator[Any]:
    """Yield a cursor that sees a million stored messages, in a transaction of its own."""
    with stranger() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(TABLE)
        cursor.execute(ROWS.replace("%%", "%"))
        for name, definition in INDEXES[NOTIFICATION].items():
            cursor.execute(f"CREATE INDEX {name} ON pgpubsub_sql_notification {definition}")
        yield cursor
        cursor.execute("ROLLBACK")


def explained(cursor: Any, one: Statement) -> Plan:
    """Execute a statement, see what it does, and undo it."""
    cursor.execute("SAVEPOINT explained")
    explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)"
    cursor.execute(f"{explain} {one.text}", one.parameters)
    ((plan,),) = cursor.fetchall()
    cursor.execute("ROLLBACK TO explained")
    cursor.execute("RELEASE explained")
    return Plan(list(nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def statements(mark: str, *, is_fresh: bool) -> dict[str, Statement]:
    """Return our queries. Only a *fresh* table may be searched from its start for a few pages."""
    everything = ClaimFilter()
    limits = {"limit": LARGEST_BATCH, "bytes": CLAIM_BYTES}
    start = {"keyless": False, "after": "-infinity", "after_id": 0} | limits
    start |= Lane(BIG, NAME)._asdict()
    keyed = {"channel": KEYED, "subscription": NAME, "limit": 50, "after": "", "steps": 1000}
    chosen = {"keys": ['["1"]', '["2"]'], "alone": False} | limits | Lane(KEYED, NAME)._asdict()
    unlimited = 10**9
    number = len(MANY["channels"])
    look = MANY | {"after": ["-infinity"] * number, "after_ids": [0] * number}
    take, take_ordered = (
        statement("take", everything.text),
        statement("take_ordered", everything.text),
    )
    found = {
        "a claim from the mark": Statement(take, start | {"after": mark}, LARGEST_BATCH, 15000),
        "a claim from the start": Statement(take, start, LARGEST_BATCH, 15000),
        "keys to lock": Statement(query("lock_keys"), keyed, 60, 3000),
        "a keyed claim": Statement(take_ordered, chosen, 500, 5000),
        "a look": Statement(query("look"), look, 2100, 12000),
        "a look ahead": Statement(query("next_ready"), MANY | {"after": None}, 2100, 12000),
        "a look ahead, again": Statement(query("next_ready"), MANY | {"after": mark}, 2100, 12000),
        "the number that is ready": Statement(query("count_ready"), columns(LANES), 10001, 15000),
        "the status": Statement(query("status"), columns(LANES[:3]), 20100, 2000),
        "the lanes that have messages": Statement(query("stored_lanes"), {}, 210, 1000),
        "a message in flight": Statement(query("in_flight"), {"id": 700000}, 100, 100),
    }
    if is_fresh:
        return found
    bounded = ("a claim from the mark", "a look ahead, again", "a message in flight")
    return {
        name: one if name in bounded else one._replace(buffers=unlimited)
        for name, one in found.items()
    }


def excesses(cursor: Any, *, is_fresh: bool) -> Iterator[str]:
    """Yield what is wrong."""
    cursor.execute(
        "SELECT available_at::text FROM pgpubsub_sql_notification WHERE channel = %s"
        " AND available_at IS NOT NULL ORDER BY available_at OFFSET 1000 LIMIT 1",
        [BIG],
    )
    ((mark,),) = cursor.fetchall()
    for name, one in statements(mark, is_fresh=is_fresh).items():
        plan = explained(cursor, one)
        if "Seq Scan" in plan.scans:
            yield f"{name} scans the table"
        if plan.rows > one.rows or plan.buffers > one.buffers:
            yield f"{name} reads {plan.rows:g} rows and {plan.buffers} pages"


def test_no_query_reads_the_table_at_a_million_rows(million: Any) -> None:
    """Freshly loaded, with statistics, and after most was deleted under an open transaction."""
    assert list(excesses(million, is_fresh=True)) == []
    million.execute("ANALYZE pgpubsub_sql_notification")
    assert list(excesses(million, is_fresh=True)) == []
    million.execute("DELETE FROM pgpubsub_sql_notification WHERE id <= 450000 OR id > 850000")
    assert list(excesses(million, is_fresh=False)) == []
    million.execute("ANALYZE pgpubsub_sql_notification")
    assert list(excesses(million, is_fresh=False)) == []
