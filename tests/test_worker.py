"""One worker, step by step: looking, planning, hearing, reconnecting."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any

import pytest
from django.db import connection

from pgpubsub_sql import notify
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import doorbell as doorbell_module
from pgpubsub_sql.worker import worker as worker_module
from pgpubsub_sql.worker.sleeping import POLL_SECONDS
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job, Shout
from tests.conftest import eventually
from tests.ledger import numbers, sql, stranger
from tests.proxy import Proxy
from tests.workers import fall_asleep, poll

pytestmark = pytest.mark.django_db(transaction=True)


def ring(worker: Worker, name: str) -> None:
    """Ring as a sender does, and have the worker hear it."""
    sql("SELECT pg_notify(%s, '')", name)
    worker.shutdown.wait([worker.doorbell], 30)
    worker._read()


def due_in(worker: Worker, name: str) -> float:
    return worker._poll_at[Lane(name)] - time.monotonic()


def cut_off(raw: Any) -> None:
    """Have the driver find, as after a crash, that the server has gone without a word."""
    with socket.socket(fileno=os.dup(raw.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def test_an_idle_worker_does_not_query(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("handle_stored", "look", "next_ready"):
        monkeypatch.setattr(worker.delivery, name, lambda *_, name=name: asked.append(name))
    poll(worker)
    worker._look_ahead()
    assert asked == []
    assert POLL_SECONDS - 1 < due_in(worker, "app.Job") <= POLL_SECONDS


def test_a_ring_makes_its_channel_due(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        worker.delivery, "handle_stored", lambda name, *_, **__: looked.append(name)
    )
    sql("SELECT pg_notify('app.Job', '')")
    worker.step()
    poll(worker)
    assert looked == ["app.Job"]


def test_it_sleeps_until_the_next_message_is_ready(worker: Worker) -> None:
    notify(Job(number=1))
    sql("UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp() + interval '5 s'")
    worker.step()  # hears the ring
    fall_asleep(worker)
    assert 4 < due_in(worker, "app.Job") <= 5
    assert due_in(worker, "app.Shout") > 5


@pytest.fixture
def busy(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that always finds something in app.Job."""
    handle_stored = worker.delivery.handle_stored
    monkeypatch.setattr(
        worker.delivery,
        "handle_stored",
        lambda name, *lane, **how: name == "app.Job" or handle_stored(name, *lane, **how),
    )
    ring(worker, "app.Job")
    return worker


def test_a_delayed_message_has_its_turn_while_another_channel_is_busy(busy: Worker) -> None:
    """F28: what is delayed or to be retried waited for the safety look."""
    store = "INSERT INTO pgpubsub_sql_notification (channel, payload, available_at) VALUES"
    due = "clock_timestamp() + interval '0.3 s'"
    sql(f"{store} ('app.Shout', '{{\"number\": 1}}', {due})")
    busy._poll_at[Lane("app.Shout")] = time.monotonic() + POLL_SECONDS
    eventually(lambda: busy.step() or numbers("hear_only_number"), within=POLL_SECONDS / 2)
    assert numbers("hear_only_number") == [1]


def test_expired_payloads_are_swept_while_a_channel_is_busy(
    busy: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F28: long payloads that had expired stayed."""
    swept: list[int] = []
    monkeypatch.setattr(busy.delivery, "sweep", lambda: swept.append(1))
    busy._sweep_at = 0.0
    eventually(lambda: busy.step() or swept, within=POLL_SECONDS / 2)


def test_looking_ahead_takes_a_small_share_of_a_busy_worker(
    busy: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F28: with a thousand channels it is no short query."""

    def next_ready() -> dict[Lane, float]:
        asked.append(1)
        threading.Event().wait(0.02)
        return {}

    asked: list[int] = []
    monkeypatch.setattr(busy.delivery, "next_ready", next_ready)
    busy._look_ahead_at = 0.0
    busy._look_ahead()
    assert busy._look_ahead_at - time.monotonic() > 0.3
    for _ in range(10):
        busy._look_ahead()
    assert asked == [1]


def test_a_channel_that_fails_is_polled_with_growing_delays(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rings do not hasten it, so that it never spins; others are not affected."""
    delays = []
    handle_stored = worker.delivery.handle_stored

    def broken(name: str, *lane: str, **how: bool) -> bool:
        if name == "app.Job":
            raise RuntimeError("out of order")
        return handle_stored(name, *lane, **how)

    monkeypatch.setattr(worker.delivery, "handle_stored", broken)
    for _ in range(4):
        poll(worker, "app.Job")
        worker._look_ahead()
        ring(worker, "app.Job")
        delays.append(due_in(worker, "app.Job"))
    assert 0 < delays[0] <= 0.1
    assert 0.3 < delays[3] <= 0.8
    assert (
        caplog.text.count(
            "Stored messages of channel app.Job cannot be handled now: out of order; trying again"
        )
        == 4
    )
    assert {record.channel for record in caplog.records} == {"app.Job"}  # type: ignore[attr-defined]
    ring(worker, "app.Shout")
    assert due_in(worker, "app.Shout") < 0
    monkeypatch.undo()
    poll(worker, "app.Job")
    ring(worker, "app.Job")
    assert due_in(worker, "app.Job") < 0


def test_a_failure_to_look_ahead_is_survived(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, float]:
        raise RuntimeError("out of order")

    monkeypatch.setattr(worker.delivery, "next_ready", broken)
    worker._has_looked_ahead = False
    worker._look_ahead()
    assert "Asking when stored messages are due failed" in caplog.text
    assert 0 < due_in(worker, "app.Job") <= POLL_SECONDS


def test_a_lost_server_is_logged_in_one_line(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a COMMIT, for which psycopg2 has no better error than DatabaseError."""
    claims = worker.delivery._states[Lane("app.Job")].claims
    take = claims.take

    def take_and_lose(limit: int, **how: bool) -> Any:
        claim = take(limit, **how)
        cut_off(connection.connection)
        return claim

    monkeypatch.setattr(claims, "take", take_and_lose)
    ring(worker, "app.Job")
    poll(worker)
    connection.ensure_connection()
    cut_off(connection.connection)
    worker._look_ahead_at = 0.0
    worker._backoffs.clear()
    worker._poll_at[Lane("app.Job")] = time.monotonic() + 1
    worker._look_ahead()
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [bool(record.exc_info) for record in told] == [False, False]
    assert "Stored messages of channel app.Job cannot be handled now: " in told[0].getMessage()
    assert "Asking when stored messages are due failed: " in told[1].getMessage()


def test_long_payloads_are_swept_once_a_minute(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[int] = []
    monkeypatch.setattr(worker.delivery, "sweep", lambda: swept.append(1))
    for sweep_at in (0.0, None):
        worker._sweep_at = worker._sweep_at if sweep_at is None else sweep_at
        worker._keep_house()
    assert len(swept) == 1
    assert 55 < worker._sweep_at - time.monotonic() <= 60


def test_the_end_of_the_idle_work_connection_loses_no_message(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """P9: an ephemeral message cannot be tried again, so the loss is noticed before it comes."""
    pid = connection.connection.info.backend_pid
    worker._keep_house()  # else that meets the end first
    with stranger() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        worker.step()
        assert connection.connection is None
        cursor.execute("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
    worker.step()
    assert numbers("hear") == [1]
    assert not caplog.records


def test_after_losing_the_doorbell_it_reconnects_and_polls_all_channels(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """P9."""
    raw = worker.doorbell._connection
    sql("SELECT pg_terminate_backend(%s)", raw.info.backend_pid)
    while worker.doorbell._connection is raw:
        worker.step()
    assert "The LISTEN connection is lost" in caplog.text
    assert all(due_in(worker, name) <= 0 for name in worker.delivery.channels)
    sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
    eventually(lambda: worker._receive() or numbers("hear") == [1])  # everything is due: no waiting


def test_a_listen_connection_that_receives_nothing_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F38: the system of a proxy that has lost its server acknowledges what it cannot deliver."""
    monkeypatch.setattr(doorbell_module, "ECHO_SECONDS", 0.2)
    worker = Worker([Job, Shout])
    with Proxy() as proxy, worker.shutdown:
        with pytest.MonkeyPatch.context() as through:
            connection.close()
            for name, value in proxy.environment().items():
                through.setenv(name, value)
            worker._connect()
        connection.close()
        raw = worker.doorbell._connection
        proxy.freeze()
        worker._echo_at = 0.0

        def is_replaced() -> bool:
            worker._poll_at = {name: time.monotonic() + 0.1 for name in worker._poll_at}
            worker.step()
            return worker.doorbell._connection is not raw

        eventually(is_replaced)
        sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
        eventually(lambda: worker._receive() or numbers("hear") == [1])
        worker.doorbell.close()


def test_delays_between_connection_attempts_grow(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P9: also for one that is there and not ready yet."""
    waits: list[float] = []
    errors: list[Exception] = [
        worker.doorbell.errors("gone\nHINT: away"),
        NotReady("no tables"),
        connection.Database.OperationalError("starting up"),
    ]

    def check_workable(connection: object) -> str:
        if errors:
            raise errors.pop(0)
        return "public"

    def wait(objects: Any = (), timeout: float = 0) -> list[Any]:
        waits.append(timeout)
        return []

    monkeypatch.setattr(worker_module, "check_workable", check_workable)
    monkeypatch.setattr(worker.shutdown, "wait", wait)
    worker._connect()
    assert len(waits) == 3
    assert 0 < waits[0] <= 0.1
    assert 0.2 <= waits[2] <= 0.4
    assert "gone; trying again in 0." in caplog.text
    assert "HINT" not in caplog.text
    assert worker.doorbell.notifies() == []


def test_it_can_be_stopped_while_it_waits_for_the_server(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_workable(connection: object) -> str:
        signal.raise_signal(signal.SIGTERM)
        raise NotReady("never")

    monkeypatch.setattr(worker_module, "check_workable", check_workable)
    worker._connect()
    assert worker.shutdown.is_requested()


def test_stored_rows_of_an_ephemeral_channel_are_taken(worker: Worker) -> None:
    """SQL cannot know what a channel is, and it may have been switched while rows waited."""
    sql("SELECT pgpubsub_notify('app.Shout', '{\"number\": 1}')")
    worker.step()
    poll(worker)
    assert numbers("hear") == [1]
