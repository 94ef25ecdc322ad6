"""What the pages read of a million messages: a few pages of an index, and never the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from pgpubsub_sql.inspection import MOST
from tests.admin.conftest import CHANNELS, MESSAGES, text
from tests.delivery.plans import nodes
from tests.ledger import sql

TABLE = "pgpubsub_sql_notification"
STORE = """
INSERT INTO pgpubsub_sql_notification
    (channel, subscription, payload, available_at, attempts, reason, failed_at, last_error)
SELECT 'plans.' || number % 5, CASE WHEN number % 20 < 10 THEN 'mail' ELSE '' END, '{"number": 1}',
    CASE
        WHEN number % 10 = 0 THEN NULL
        WHEN number % 10 <= 5 THEN clock_timestamp() - number * interval '1 ms'
        ELSE clock_timestamp() + interval '1 day' + number * interval '1 ms'
    END,
    CASE WHEN number % 10 IN (0, 8, 9) THEN number % 7 ELSE 0 END,
    CASE WHEN number % 10 IN (0, 8, 9) THEN 'Error' || number % 3 ELSE '' END,
    CASE WHEN number % 10 IN (0, 8, 9) THEN clock_timestamp() - number * interval '1 s' END,
    CASE WHEN number % 10 IN (0, 8, 9) THEN repeat('a line of the traceback', 10) ELSE '' END
FROM generate_series(1, 1000000) AS number
"""


@pytest.fixture(scope="module")
def million(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Store a million messages; three in ten have failed, one in ten is parked."""
    with django_db_blocker.unblock():
        sql(STORE)
        sql(
            f"UPDATE {TABLE} SET reason = 'Rare' WHERE id ="
            f" (SELECT max(id) FROM {TABLE} WHERE available_at IS NULL)"
        )
        sql(f"VACUUM (ANALYZE) {TABLE}")
    yield
    with django_db_blocker.unblock():
        sql(f"TRUNCATE {TABLE}")


@pytest.fixture
def reads(million: None, client_of: Callable[..., Client]) -> Callable[..., list[dict[str, Any]]]:
    """Open a page, and return what scans its statements make of our table."""
    client = client_of(superuser=True)

    def open_page(path: str = "", **parameters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def explain(execute: Any, statement: str, values: Any, many: bool, context: Any) -> Any:
            if TABLE in statement and not statement.startswith("EXPLAIN"):
                with connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
                    ((plan,),) = cursor.fetchall()
                plan = json.loads(plan) if isinstance(plan, str) else plan
                found.extend(one for one in nodes(plan[0]["Plan"]) if is_scan(one))
            return execute(statement, values, many, context)

        with connection.execute_wrapper(explain):
            text(client.get(path if path.startswith("/") else f"{MESSAGES}{path}", parameters))
        assert found
        return found

    return open_page


def is_scan(node: dict[str, Any]) -> bool:
    return node.get("Relation Name") == TABLE or node["Node Type"].startswith("Bitmap")


def rows_of(node: dict[str, Any]) -> float:
    return float(node["Actual Rows"] * node["Actual Loops"])


LISTS: dict[str, dict[str, Any]] = {
    "failed": {},
    "last page": {"p": 100},
    "a channel": {"channel": "plans.0"},
    "parked": {"show": "parked"},
    "retrying": {"show": "retrying"},
    "ready": {"show": "ready"},
    "waiting": {"show": "waiting"},
    "ready on a channel": {"show": "ready", "channel": "plans.1"},
    "no such channel": {"show": "waiting", "channel": "plans.none"},
    "a subscription": {"subscription": "mail"},
    "ready for a subscription": {"show": "ready", "subscription": "mail"},
    "one subscription of a channel": {"channel": "plans.0", "subscription": "mail"},
    "a reason": {"reason": "Error1"},
    "a rare reason": {"reason": "Rare"},
    "a time": {"since": "1h"},
    "attempts": {"attempts": "5-9"},
    "all at once": {"channel": "plans.0", "reason": "Error2", "since": "7d", "attempts": "2-4"},
    "an id": {"q": "1"},
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_reads_what_it_shows_by_an_index(
    reads: Callable[..., list[dict[str, Any]]], name: str
) -> None:
    for node in reads(**LISTS[name]):
        assert "Seq Scan" not in node["Node Type"], node
        assert rows_of(node) <= 2 * MOST + 2, node
        if rows_of(node) > 100 or node.get("Rows Removed by Filter", 0) > 100:
            assert node["Node Type"] == "Index Only Scan", node


def test_the_page_of_a_message_reads_one(reads: Callable[..., list[dict[str, Any]]]) -> None:
    ((pk,),) = sql(f"SELECT max(id) FROM {TABLE}")
    assert max(rows_of(node) for node in reads(f"{pk}/change/")) == 1


@pytest.mark.django_db(databases=["default", "other"])
def test_the_page_of_channels_counts_by_an_index(
    reads: Callable[..., list[dict[str, Any]]],
) -> None:
    lanes = 10
    for node in reads(CHANNELS):
        assert "Seq Scan" not in node["Node Type"], node
        assert rows_of(node) <= lanes * MOST * 1.01, node  # older servers round the mean of loops


@pytest.mark.parametrize("parameters", [{}, {"reason": "Rare"}, {"show": "parked"}])
@pytest.mark.parametrize("change", ["replay", "retry", "discard"])
def test_the_exact_number_is_counted_in_the_index(
    reads: Callable[..., list[dict[str, Any]]], change: str, parameters: dict[str, str]
) -> None:
    for node in reads(f"all/{change}/", **parameters):
        assert node["Node Type"] == "Index Only Scan"
