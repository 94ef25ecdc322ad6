"""Ephemeral messages that come faster than they are handled."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pgpubsub_sql.worker import backlog as backlog_module
from pgpubsub_sql.worker.backlog import Backlog
from pgpubsub_sql.worker.worker import Worker
from tests.app.models import Item
from tests.conftest import eventually
from tests.ledger import calls, numbers, sql


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many messages of a channel are kept."""
    monkeypatch.setattr(backlog_module, "getsizeof", lambda _: 1)
    monkeypatch.setattr(backlog_module, "MAX_WAITING", 5)
    return 5


def message(number: int) -> str:
    return json.dumps({"number": number})


def drained(backlog: Backlog, *, at_once: int = 1) -> list[tuple[str, str]]:
    """Take so many messages in each turn."""
    taken = []
    while backlog:
        with backlog.turn() as (name, waiting):
            taken += [(name, waiting.popleft()) for _ in range(min(at_once, len(waiting)))]
    return taken


def test_channels_take_turns_and_each_keeps_its_order() -> None:
    """P27: a flood on one does not keep the others waiting."""
    backlog = Backlog()
    for name, payload in ["a1", "a2", "a3", "b1", "c1", "c2"]:
        backlog.add(name, payload)
    assert len(backlog) == 6
    assert ["".join(one) for one in drained(backlog)] == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert len(backlog) == 0


def test_what_was_taken_makes_room(small: int) -> None:
    backlog, taken = Backlog(), []
    backlog.add("calm", message(0))
    for number in range(1, 41, 4):
        for one in range(number, number + 4):
            backlog.add("calm", message(one))
        with backlog.turn() as (_, waiting):
            taken += [waiting.popleft() for _ in range(4)]
    assert taken == [message(number) for number in range(40)]
    assert not backlog._dropped


def test_their_memory_is_what_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "MAX_WAITING", 20_000)
    backlog = Backlog()
    for number in range(50):
        backlog.add("short", message(number))
    assert not backlog._dropped
    for _ in range(3):
        backlog.add("long", "x" * 7000)
    assert backlog._dropped == {"long": 1}


def test_the_newest_messages_are_kept_and_dropped_ones_counted(
    small: int, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = Backlog()
    for number in range(12):
        backlog.add("flooded", message(number))
    backlog.add("calm", message(1))
    backlog.report()
    assert not caplog.records  # the burst is not over
    assert [payload for name, payload in drained(backlog) if name == "flooded"] == [
        *map(message, range(7, 12))
    ]
    backlog.report()
    backlog.report()
    (record,) = caplog.records
    assert "7 messages on channel flooded were dropped" in record.getMessage()
    assert (record.channel, record.count) == ("flooded", 7)  # type: ignore[attr-defined]


def test_a_burst_that_does_not_end_is_reported_now_and_then(
    small: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backlog_module, "REPORT_SECONDS", 0.0)
    backlog = Backlog()
    for number in range(7):
        backlog.add("flooded", message(number))
    backlog.report()
    backlog.report()
    backlog.add("flooded", message(7))
    backlog.report()
    said = [record.getMessage().split(" were")[0] for record in caplog.records]
    assert said == ["2 messages on channel flooded", "1 messages on channel flooded"]


def test_a_burst_is_bounded_and_its_losses_are_logged(
    worker: Worker, small: int, caplog: pytest.LogCaptureFixture
) -> None:
    sql(
        "SELECT pg_notify('app.Shout', jsonb_build_object('number', n)::text)"
        " FROM generate_series(1, 20) AS n"
    )
    eventually(lambda: worker._read() or sum(worker._ephemeral._dropped.values()) == 15)
    assert len(worker._ephemeral) == small
    eventually(lambda: worker._handle_ephemeral() or not worker._ephemeral)
    assert numbers("hear") == [16, 17, 18, 19, 20]
    assert caplog.text.count("were dropped") == 1
    assert "15 messages on channel app.Shout were dropped" in caplog.text


def test_it_does_not_sleep_while_messages_wait(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker._recorder, "patience", lambda _: 9.0)  # what is counted may be due
    timeouts: list[float] = []
    monkeypatch.setattr(worker.shutdown, "wait", lambda _, timeout: timeouts.append(timeout) or [])
    worker._ephemeral.add("app.Shout", '{"number": 1}')
    worker._receive()
    worker._receive()
    assert timeouts[0] == 0
    assert timeouts[1] > 0
    assert numbers("hear") == [1]


def test_a_long_message_is_read_once_for_all_its_listeners(worker: Worker) -> None:
    Item.objects.create(name="ä" * 20_000)
    with CaptureQueriesContext(connection) as queries:
        while not calls("news"):
            worker.step()
    read = [one["sql"] for one in queries if "pgpubsub_sql_longpayload" in one["sql"]]
    assert len([statement for statement in read if statement.startswith("SELECT")]) == 1
