"""Metrics: what Prometheus fetches is what there is, and what it is told to alert on exists."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
import yaml
from django.db import connections
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pgpubsub_sql.inspection import LongCall
from pgpubsub_sql.prometheus import Collector, collector
from pgpubsub_sql.sql import query
from tests.conftest import ROOT
from tests.ledger import sql
from tests.management.support import run
from tests.stored import HOUR, NAME, in_flight, park, retrying, store
from tests.test_counters import DO_JOB, past

pytestmark = pytest.mark.django_db(transaction=True)
Logs = pytest.LogCaptureFixture

RULES = files("pgpubsub_sql.prometheus").joinpath("alerts.yml").read_text("utf-8")
PAGE = (ROOT / "docs/howto/monitor.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _from_zero(transactional_db: None) -> None:
    sql("TRUNCATE pgpubsub_sql_counter")


LABELS = ("database", "channel", "subscription", "listener", "outcome")


def fetched(one: Collector) -> dict[tuple[str, ...], float]:
    """Return what Prometheus reads: values by name and labels."""
    registry = CollectorRegistry()
    registry.register(one)
    text = generate_latest(registry).decode()
    return {
        (sample.name, *(sample.labels[one] for one in LABELS if one in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metrics(**options: Any) -> dict[tuple[str, ...], float]:
    return fetched(Collector(["default"], **options))


def test_what_is_stored() -> None:
    old = store(available_at=now() - HOUR)
    store(2)
    retrying()
    park()
    run("pause", "app.Step")
    with in_flight(old.pk):
        found = metrics()
    run("resume", "app.Step")  # subscriptions outlive a test
    where = ("default", NAME, "")
    names = [name for name in collector.GAUGES if name.startswith("messages_")]
    states = {name: found[f"pgpubsub_{name}", *where] for name in names}
    assert states == {
        "messages_ready": 1,
        "messages_in_flight": 1,
        "messages_waiting": 1,
        "messages_failed": 2,
        "messages_parked": 1,
    }
    assert 0 <= found["pgpubsub_oldest_ready_seconds", *where] < 60
    assert found["pgpubsub_paused", *where] == 0
    assert found["pgpubsub_paused", "default", "app.Step", ""] == 1
    assert found["pgpubsub_messages_ready", "default", "app.ItemChannel", ""] == 0
    assert 3600 <= metrics()["pgpubsub_oldest_ready_seconds", *where] < 3660


def now() -> Any:
    return sql("SELECT clock_timestamp()")[0][0]


def test_what_became_of_messages_never_goes_back() -> None:
    for age in ("0", "70 min"):
        past(age, handled=3, parked=1)
    where = ("default", "c", "", DO_JOB)
    before = metrics()
    sql(query("roll_up"))
    found = metrics()
    for one in (before, found):
        assert one["pgpubsub_deliveries_total", *where, "handled"] == 6
        assert one["pgpubsub_deliveries_total", *where, "parked"] == 2
        assert one["pgpubsub_deliveries_total", *where, "failed"] == 0
        assert one["pgpubsub_listener_seconds_total", *where] == 1.0


def test_who_listens(worker: Any) -> None:
    found = metrics()
    assert found["pgpubsub_up", "default"] == 1
    assert found["pgpubsub_listening_workers", "default"] == 1
    assert found["pgpubsub_workers_behind", "default"] == 0
    assert 0 <= found["pgpubsub_notify_queue_usage_ratio", "default"] < 1


def test_who_takes_long_and_what_keeps_vacuum_from_its_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = LongCall(NAME, 1, DO_JOB, 7.5, 42, "host")
    monkeypatch.setattr(collector, "long_calls", lambda using: [call])
    other = connections.create_connection("default")
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
        found = metrics()
    other.close()
    assert found["pgpubsub_call_seconds", "default", NAME, "", DO_JOB] == 7.5
    assert 0 < found["pgpubsub_oldest_transaction_seconds", "default"] < 60
    assert found["pgpubsub_dead_rows", "default"] >= 0


def test_registering_asks_nobody(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        CollectorRegistry().register(Collector())
    described = {family.name for family in Collector().describe()}
    assert described == {f"pgpubsub_{name}" for name in {**collector.GAUGES, **collector.COUNTERS}}


def test_it_asks_every_ten_seconds_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Collector(["default"])
    first = fetched(one)
    store()
    assert fetched(one) == first
    one._found_at -= collector.CACHE_SECONDS
    assert fetched(one)["pgpubsub_messages_ready", "default", NAME, ""] == 1


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_every_database_with_our_tables_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default; one that cannot be asked hides no other."""
    found = fetched(Collector())
    assert found["pgpubsub_up", "default"] == found["pgpubsub_up", "other"] == 1
    connections["other"].close()
    monkeypatch.setitem(connections["other"].settings_dict, "NAME", "nowhere")
    found = fetched(Collector())
    assert (found["pgpubsub_up", "default"], found["pgpubsub_up", "other"]) == (1, 0)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_database_without_our_tables_is_left_out(caplog: Logs) -> None:
    """Unless it is named: then it should have them."""
    with connections["other"].cursor() as cursor:
        cursor.execute("ALTER TABLE pgpubsub_sql_notification RENAME TO gone")
    try:
        found = fetched(Collector())
        assert [key for key in found if "other" in key] == []
        assert found["pgpubsub_up", "default"] == 1
        assert not caplog.messages
        assert fetched(Collector(["other"])) == {("pgpubsub_up", "other"): 0}
        assert "The tables of pgpubsub_sql are missing in the database 'other'" in caplog.text
    finally:
        with connections["other"].cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO pgpubsub_sql_notification")


def test_a_database_that_cannot_be_asked_is_down(caplog: Logs) -> None:
    """And the reason is logged once."""
    one = Collector(["default"])
    sql("ALTER TABLE pgpubsub_sql_counter RENAME TO away")
    try:
        for _ in range(2):
            found = fetched(one)
            one._found_at -= collector.CACHE_SECONDS
    finally:
        sql("ALTER TABLE away RENAME TO pgpubsub_sql_counter")
    assert found == {("pgpubsub_up", "default"): 0}
    assert caplog.text.count("The metrics of the database 'default' cannot be read: ") == 1
    assert 'relation "pgpubsub_sql_counter" does not exist' in caplog.text
    assert fetched(one)["pgpubsub_up", "default"] == 1
    assert sql("SELECT 1") == [(1,)]


def test_a_missing_privilege_is_named(caplog: Logs) -> None:
    sql("CREATE ROLE meter")
    try:
        sql("GRANT SELECT ON pgpubsub_sql_notification, pgpubsub_sql_subscription TO meter")
        sql("SET ROLE meter")
        assert metrics() == {("pgpubsub_up", "default"): 0}
        assert "GRANT SELECT ON public.pgpubsub_sql_counter TO meter" in caplog.text
        sql("RESET ROLE")
        sql("GRANT SELECT ON pgpubsub_sql_counter TO meter")
        sql("SET ROLE meter")
        assert metrics()["pgpubsub_up", "default"] == 1
    finally:
        sql("RESET ROLE")
        sql("DROP OWNED BY meter; DROP ROLE meter")


def test_a_thread_that_fetches_leaves_no_connection() -> None:
    connections["default"].close()
    metrics()
    assert connections["default"].connection is None
    sql("SELECT 1")
    metrics()
    assert connections["default"].connection is not None


def test_nothing_is_imported_for_those_who_use_no_metrics() -> None:
    program = (
        "import sys, django; django.setup();"
        "from django.core.management import get_commands, load_command_class;"
        "[load_command_class('pgpubsub_sql', name) for name in ('listen', 'pgpubsub')];"
        "import pgpubsub_sql.admin;"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


# --- The alerts


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES)["groups"]
    return list(group["rules"])


def test_alerts_are_about_metrics_that_there_are() -> None:
    """And about labels that these have."""
    known = {f"pgpubsub_{name}": labels for name, (_, labels) in collector.GAUGES.items()} | {
        f"pgpubsub_{name}_total": labels for name, (_, labels) in collector.COUNTERS.items()
    }
    assert len(rules()) == 6
    for rule in rules():
        assert {*rule} == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        named = re.findall(r"pgpubsub_\w+", rule["expr"])
        assert named
        for labels in re.findall(r"by \((.*?)\)", rule["expr"]):
            for name in named:
                assert set(labels.split(", ")) <= set(known[name])
        shown = " ".join(rule["annotations"].values())
        by = re.findall(r"by \((.*?)\)", rule["expr"])[0].split(", ")
        assert set(re.findall(r"\$labels\.(\w+)", shown)) <= set(by)
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_what_silences_an_alert_is_alerted_on_if_it_stays() -> None:
    """But a pause, which somebody has asked for."""
    silencing = {
        name for one in rules() for name in re.findall(r"unless .*?\((pgpubsub_\w+)\)", one["expr"])
    }
    alerted = {re.sub(r" unless .*", "", one["expr"]) for one in rules()}
    for name in silencing - {"pgpubsub_paused"}:
        assert any(name in expression for expression in alerted), name


def test_every_alert_and_metric_is_explained() -> None:
    for rule in rules():
        assert f"`{rule['alert']}`" in PAGE
    for name in collector.GAUGES:
        assert f"`pgpubsub_{name}`" in PAGE
    for name in collector.COUNTERS:
        assert f"`pgpubsub_{name}_total`" in PAGE
