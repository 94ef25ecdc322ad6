"""What listeners did, on the page of channels and in status."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client

from pgpubsub_sql import counting
from pgpubsub_sql.admin.figures import shown_listener
from pgpubsub_sql.subscriptions import Lane
from tests.admin.conftest import CHANNELS, text
from tests.ledger import sql
from tests.management.support import run_json
from tests.stored import NAME, store
from tests.test_counters import DO_JOB

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def wrote(ago: int, *, handled: int = 0, parked: int = 0, worker: int = 0) -> None:
    """Write what a worker counted so many minutes ago."""
    sql(
        "INSERT INTO pgpubsub_sql_counter"
        " (minute, channel, subscription, listener, worker, handled, parked, seconds)"
        " VALUES (date_trunc('minute', now() - %s * interval '1 minute'), %s, '', %s, %s, %s, %s,"
        " %s)",
        *(ago, NAME, DO_JOB, worker, handled, parked, handled / 4),
    )


@pytest.fixture
def watcher(client_of: Callable[..., Client]) -> Client:
    return client_of("view_channel")


@pytest.fixture(autouse=True)
def _from_zero(db: None) -> None:
    sql("TRUNCATE pgpubsub_sql_counter")


def test_what_listeners_did_is_shown_and_drawn(watcher: Client) -> None:
    for worker in range(2):
        wrote(0, handled=4, parked=1, worker=worker)
        wrote(29, handled=20, worker=worker)
    wrote(30, handled=1000)
    (one,) = counting.minutes("default")
    assert (one.handled[0], one.handled[-1], one.failed[-1]) == (40, 8, 2)
    assert sum(one.handled) == 48
    page = text(watcher.get(CHANNELS))
    (row,) = re.findall(rf"<tr>\s*<td>{NAME}</td>\s*<td>{DO_JOB}</td>(.*?)</tr>", page, re.DOTALL)
    numbers = [float(one) for one in re.findall(r'pgpubsub-count">([\d.]+)<', row)]
    assert numbers[0] == pytest.approx(8 / one.length, abs=0.2)
    assert numbers[1] == pytest.approx(2 / one.length, abs=0.2)
    assert numbers[2] == pytest.approx(12 / 50, abs=0.001)
    assert "over the last 30 minutes: 40 at most</title>" in row
    assert '<svg role="img" viewBox="0 0 120 24"' in row
    assert "style=" not in row
    bars = re.findall(r'<rect x="(\d+)" y="([\d.]+)" width="3" height="([\d.]+)"', row)
    assert bars == [("0", "0.0", "24.0"), ("116", "22.8", "1.2"), ("116", "18.0", "4.8")]


def test_figures_are_drawn_alike_in_every_language(watcher: Client) -> None:
    """No language writes its comma into a drawing."""
    wrote(0, handled=7)
    wrote(1, handled=3)
    page = text(watcher.get(CHANNELS, headers={"accept-language": "de"}))
    assert "Behandelt je Minute" in page
    (row,) = re.findall(r'<svg role="img".*?</svg>', page, re.DOTALL)
    assert not re.search(r'="[^"]*,', row)


def test_nothing_is_shown_of_nobody(watcher: Client) -> None:
    assert '<svg role="img"' not in text(watcher.get(CHANNELS))


def test_no_listener_is_said_to_be_none() -> None:
    one = counting.Minutes(channel="c", subscription="", listener="", length=4.5)
    assert shown_listener(one)["listener"] == "none: it was not reached"
    assert shown_listener(one)["seconds"] == ""
    assert shown_listener(one)["bars"] == []


def test_without_the_privilege_nothing_is_known() -> None:
    wrote(0, handled=1)
    sql("CREATE ROLE onlooker")
    sql("SET LOCAL ROLE onlooker")
    assert counting.minutes("default") == []
    assert counting.rates("default") == {}
    sql("RESET ROLE")
    sql("GRANT SELECT ON pgpubsub_sql_counter TO onlooker")
    sql("SET LOCAL ROLE onlooker")
    assert counting.rates("default")[Lane(NAME)].handled > 0
    sql("RESET ROLE")


def test_status_has_the_rates() -> None:
    store()
    wrote(0, handled=8, parked=2)
    wrote(5, handled=1000)
    (found,) = run_json("status", NAME)["channels"]
    assert 8 / 5 <= found["handled_per_minute"] <= 8 / 4
    assert 2 / 5 <= found["failed_per_minute"] <= 2 / 4
    (other,) = run_json("status", "app.Step")["channels"]
    assert (other["handled_per_minute"], other["failed_per_minute"]) == (0, 0)
