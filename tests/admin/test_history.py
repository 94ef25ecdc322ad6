"""The history in the admin."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import connection
from django.test import Client

import pgpubsub_sql
from pgpubsub_sql import Channel
from pgpubsub_sql.inspection import MOST
from pgpubsub_sql.models import Notification
from tests import kept
from tests.admin.conftest import text
from tests.admin.test_changes import flat, form
from tests.admin.test_plans import rows_of
from tests.delivery.plans import nodes
from tests.ledger import sql
from tests.registries import blank

__all__ = ("blank",)

HISTORY = "/admin/pgpubsub_sql/handled/"


def keep(
    pk: int, outcome: str = "handled", payload: str = '{"number": 7, "account": "acme"}'
) -> None:
    kept.keep(
        *(pk, payload, outcome),
        slot="3",
        id="%s",
        payload="%s::jsonb",
        outcome="%s",
        reason="'it came too late'",
        attempts="2",
    )


@pytest.fixture
def operator(client_of: Callable[..., Client]) -> Client:
    """May do everything."""
    return client_of("view_handled", "view_payload", "replay")


@pytest.fixture
def onlooker(client_of: Callable[..., Client]) -> Client:
    """May see that messages were handled, but not what was in them, and change nothing."""
    return client_of("view_handled")


def shown(client: Client, **parameters: str) -> list[int]:
    page = text(client.get(HISTORY, parameters))
    return [int(one) for one in re.findall(r"handled/(\d+)/change/", page)]


def test_the_list_shows_the_newest_first_and_filters(operator: Client) -> None:
    keep(1)
    keep(2, "discarded")
    keep(3)
    sql("UPDATE pgpubsub_sql_history SET handled_at = now() - interval '1 day' WHERE ids[1] = 1")
    assert shown(operator) == [3, 2, 1]
    assert shown(operator, outcome="discarded") == [2]
    assert shown(operator, channel="app.Step") == [3, 2, 1]
    assert shown(operator, channel="app.Job") == []
    assert shown(operator, since="1h") == [3, 2]
    assert shown(operator, since="1h", outcome="expired") == []
    assert shown(operator, q="1") == [1]
    assert shown(operator, q="#2") == [2]
    sql("UPDATE pgpubsub_sql_history SET subscription = 'mail' WHERE ids[1] = 2")
    assert shown(operator, subscription="mail") == [2]
    assert shown(operator, subscription="", channel="app.Step") == [3, 1]
    assert shown(operator, subscription="mail", q="1") == [1]
    sql("UPDATE pgpubsub_sql_history SET handled_at = now() - interval '1 day'")
    assert shown(operator, since="10m") == []


@pytest.mark.usefixtures("blank")
def test_subscriptions_of_channels_that_keep_something_can_be_chosen(operator: Client) -> None:
    """If there are any."""
    fields = {"__annotations__": {"number": int}, "lock_notifications": True}
    sale = dataclass(type("Sale", (Channel,), fields | {"keep": datetime.timedelta(days=1)}))
    pgpubsub_sql.listener(sale)(lambda number: None)
    assert "?subscription=" not in text(operator.get(HISTORY))
    pgpubsub_sql.listener(sale, subscription="mail")(lambda number: None)
    assert "?subscription=mail" in text(operator.get(HISTORY))


@pytest.mark.parametrize(
    "parameters",
    [{"payload__number": "7"}, {"outcome": "nothing"}, {"since": "yesterday"}, {"key": "a"}],
)
def test_other_lookups_are_refused(operator: Client, parameters: dict[str, str]) -> None:
    """They would tell what nobody may see."""
    keep(1)
    answer = operator.get(HISTORY, parameters)
    assert answer.status_code in (302, 400)


def test_everything_about_a_message(operator: Client) -> None:
    keep(1, "discarded")
    page = text(operator.get(f"{HISTORY}1/change/"))
    for words in (
        *("app.Step", "discarded", "it came too late", "acme", "tests.app.listeners.step"),
        "&quot;number&quot;: 7",
    ):
        assert words in page, words


def test_without_the_permission_nothing_of_the_payload_is_shown(onlooker: Client) -> None:
    keep(1, "discarded")
    for page in (text(onlooker.get(HISTORY)), text(onlooker.get(f"{HISTORY}1/change/"))):
        assert "acme" not in page
        assert "it came too late" not in page
        assert "Send again" not in page
    assert onlooker.post(f"{HISTORY}chosen/", {"id": "1", "confirmed": "1"}).status_code == 403


def test_who_may_not_see_the_history_sees_nothing(client_of: Callable[..., Client]) -> None:
    keep(1)
    stranger = client_of("view_notification", "replay", "view_payload")
    assert stranger.get(HISTORY).status_code == 403
    assert stranger.get(f"{HISTORY}1/change/").status_code == 403
    assert stranger.post(f"{HISTORY}chosen/", {"id": "1", "confirmed": "1"}).status_code == 403


def test_chosen_messages_are_sent_again_once_that_is_confirmed(operator: Client) -> None:
    for pk in (1, 2, 3):
        keep(pk)
    data = {"action": "send_again", "index": 0, "_selected_action": [1, 3]}
    page = text(operator.post(HISTORY, data))
    assert "2 messages are concerned. They become new messages" in flat(page)
    assert not Notification.objects.exists()
    page = text(operator.post(f"{HISTORY}chosen/", form(page), follow=True))
    assert "2 messages were sent again." in page
    assert Notification.objects.count() == 2
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_repr) == (CHANGE, "#1, #3")
    assert entry.content_type is not None
    assert entry.content_type.model == "handled"


def test_one_message_is_sent_again_from_its_page(operator: Client) -> None:
    keep(1)
    assert "Send again" in text(operator.get(f"{HISTORY}1/change/"))
    page = text(operator.post(f"{HISTORY}chosen/", {"id": "1"}))
    assert "1 message is concerned." in flat(page)
    assert operator.get(f"{HISTORY}chosen/").status_code == 302
    assert operator.post(f"{HISTORY}chosen/", {"id": "x"}).status_code == 400


def test_an_id_that_is_there_twice_has_a_page(operator: Client) -> None:
    """As after a sequence that somebody has set back."""
    keep(1)
    sql("UPDATE pgpubsub_sql_history SET slot = 4, handled_at = now() - interval '1 day'")
    keep(1, "discarded")
    assert shown(operator) == [1, 1]
    assert "discarded" in text(operator.get(f"{HISTORY}1/change/"))
    assert operator.get(f"{HISTORY}2/change/").status_code == 302
    assert operator.get(f"{HISTORY}x/change/").status_code == 302


MILLION = kept.kept_by(
    "FROM generate_series(1, 1000000) AS number",
    size=25,
    slot="number * 28 / 1000001",
    id="number",
    channel="'plans.' || number % 5",
    handled_at="now() - (1000000 - number) * interval '1 s'",
    outcome="CASE WHEN number % 100000 = 7 THEN 'discarded' ELSE 'handled' END",
)


@pytest.fixture(scope="module")
def million(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Keep a million messages in batches of five, ten of which were discarded, one a second."""
    with django_db_blocker.unblock():
        sql(MILLION)
        sql("VACUUM (ANALYZE) pgpubsub_sql_history")
    yield
    with django_db_blocker.unblock():
        sql("TRUNCATE pgpubsub_sql_history")


PAGES: dict[str, dict[str, Any]] = {
    "all": {},
    "last page": {"p": 100},
    "a channel": {"channel": "plans.0"},
    "no such channel": {"channel": "plans.none"},
    "discarded": {"outcome": "discarded"},
    "expired": {"outcome": "expired"},
    "an hour": {"since": "1h"},
    "a week": {"since": "7d"},
    "all at once": {"channel": "plans.0", "since": "1d", "outcome": "handled"},
    "an id": {"q": "500000"},
    "no such subscription": {"subscription": "none"},
    "no such subscription of a channel": {"subscription": "none", "channel": "plans.0"},
}


def reads(call: Callable[[], object]) -> list[dict[str, Any]]:
    """Return what the statements read of the history that *call* executes."""
    found: list[dict[str, Any]] = []

    def explain(execute: Any, statement: str, values: Any, many: bool, context: Any) -> Any:
        if "pgpubsub_sql_handled" in statement and not statement.startswith("EXPLAIN"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
                ((plan,),) = cursor.fetchall()
            every = nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
            found.extend(one for one in every if "sql_history" in one.get("Relation Name", ""))
        return execute(statement, values, many, context)

    with connection.execute_wrapper(explain):
        call()
    assert found
    return found


def rows_read(found: list[dict[str, Any]]) -> float:
    return sum(rows_of(one) + one.get("Rows Removed by Filter", 0) for one in found)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_a_million_reads_what_it_shows_by_an_index(
    million: None, client_of: Callable[..., Client], name: str
) -> None:
    client = client_of(superuser=True)
    found = reads(lambda: text(client.get(HISTORY, PAGES[name])))
    read = rows_read(found)
    # A subscription is in no index: its name is looked for in all batches, without their messages.
    of_subscription = {"no such subscription": 200_000, "no such subscription of a channel": 40_000}
    assert read <= 2 * MOST / 5 + 1000 + of_subscription.get(name, 0) * 1.01, read
    for one in found:
        assert one["Node Type"] != "Seq Scan" or rows_of(one) == 0, one


def test_what_is_chosen_of_a_million_is_found_by_an_index(
    million: None, client_of: Callable[..., Client]
) -> None:
    client = client_of(superuser=True)
    data = {"action": "send_again", "index": 0, "_selected_action": [7, 500_000]}
    pages: list[str] = []
    found = reads(lambda: pages.append(text(client.post(HISTORY, data))))
    assert "2 messages are concerned." in flat(pages[0])
    assert rows_read(found) <= 2 * MOST  # the buckets of two ids, in batches of five
