"""Transactions whose end nobody sees: the server is asked what became of them."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import Error, connection, transaction

from pgpubsub_sql import signals
from pgpubsub_sql.embedded import Server
from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.session import Session
from tests.app import listeners
from tests.app.listeners import called
from tests.conftest import eventually
from tests.delivery.channels import LoneJob
from tests.delivery.sending import drain, hasten, jobs, warm_up
from tests.ledger import calls, numbers, sql, stored, stranger

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is told of messages, in order."""
    seen: list[str] = []

    def succeeded(**named: Any) -> None:
        seen.append("succeeded")

    def failed(**named: Any) -> None:
        seen.append("failed")

    signals.message_succeeded.connect(succeeded)
    signals.message_failed.connect(failed)
    yield seen
    signals.message_succeeded.disconnect(succeeded)
    signals.message_failed.disconnect(failed)


def stop_hearing() -> None:
    """Let nothing reach us any more of what the server says; it hears us still."""
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as line:
        line.shutdown(socket.SHUT_RD)


def unacknowledged(monkeypatch: pytest.MonkeyPatch, before: Callable[[], Any] = int) -> None:
    """Have the next COMMIT of ours be executed by the server, and its answer not reach us."""
    commit, losses = connection.commit, iter([True])

    def losing() -> None:
        if not next(losses, False):
            return commit()
        before()
        backend = connection.connection.info.backend_pid
        stop_hearing()
        try:
            commit()
        finally:
            with stranger() as other:
                eventually(lambda: has_committed(other, backend))

    monkeypatch.setattr(connection, "commit", losing)


def has_committed(other: Any, backend: int) -> bool:
    """Has it ended, or does it wait for a standby? Before, it may still be terminated."""
    other.execute(
        "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event IS DISTINCT FROM 'SyncRep'",
        [backend],
    )
    return not other.fetchall()


@pytest.mark.parametrize("channel", [None, LoneJob])
def test_an_unacknowledged_commit_counts_as_committed(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[str],
    channel: Any,
) -> None:
    """F29: what is committed is told as handled, and its callbacks run; nobody is charged."""
    warm_up(delivery)
    moods = ["call back"] if channel else ["call back", "bad", "good"]
    jobs(*moods, **({"channel": channel} if channel else {}))
    unacknowledged(monkeypatch)
    drain(delivery, *([channel] if channel else []))
    monkeypatch.undo()
    assert len(called) == len(moods)
    assert len(calls("called back")) == 1
    assert told == (["succeeded"] if channel else ["succeeded", "failed", "succeeded"])
    assert [(number, row.attempts) for number, row in stored().items()] == (
        [] if channel else [(2, 1)]
    )
    assert not Notification.objects.filter(alone=True).exists()
    assert "rolled back" not in caplog.text


@contextmanager
def standby_wanted() -> Iterator[None]:
    """Have each COMMIT wait for a standby that never comes, but those of strangers."""
    with stranger() as other:
        other.execute("SET synchronous_commit = local")
        other.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        other.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            other.execute("ALTER SYSTEM RESET synchronous_standby_names")
            other.execute("SELECT pg_reload_conf()")


def waits_for_standby() -> bool:
    return sql("SHOW synchronous_standby_names") == [("nobody",)]


def test_a_commit_waiting_for_a_standby_is_decided(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """F29: its backend waits for a standby, and would keep what it has locked."""
    warm_up(delivery)
    jobs("good", "good")
    with standby_wanted():
        unacknowledged(monkeypatch, before=lambda: eventually(waits_for_standby))
        delivery.handle_stored("app.Job")
        monkeypatch.undo()
    assert told == ["succeeded"] * 2
    assert numbers("do_job") == [1, 2]
    assert not stored()


def test_an_unresolved_batch_is_settled_once_the_server_is_back(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """F29: nobody else knows what is to be told, or put back."""
    warm_up(delivery)
    jobs("call back", "good")
    unacknowledged(monkeypatch)
    was_committed = delivery.session.was_committed
    monkeypatch.setattr(delivery.session, "was_committed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        delivery.handle_stored("app.Job")
    assert not told
    monkeypatch.setattr(delivery.session, "was_committed", was_committed)
    drain(delivery)
    assert told == ["succeeded"] * 2
    assert len(calls("called back")) == 1


def test_a_transaction_unknown_to_a_promoted_standby_is_not_committed(delivery: Delivery) -> None:
    """F29: it has taken over without the last transactions."""
    with delivery.session.isolation() as isolation:
        pass
    assert not delivery.session.was_committed(str(2**40), isolation.recovered_at)


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Have Django's connection lead to a server that may crash."""
    with Server(settings={"wal_writer_delay": "10s"}) as server:
        connection.close()
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        with postgres() as cursor:
            cursor.execute(f"CREATE DATABASE {connection.settings_dict['NAME']}")
        yield server
        connection.close()


@contextmanager
def postgres() -> Iterator[Any]:
    parameters = connection.get_connection_params() | {"dbname": "postgres"}
    parameters.pop("database", None)
    raw = connection.Database.connect(**parameters)
    raw.autocommit = True
    try:
        yield raw.cursor()
    finally:
        raw.close()


def test_after_a_server_crash_a_reused_transaction_id_is_not_trusted(own_server: Server) -> None:
    """F29: PostgreSQL gives ids again that were not in its log; what is not known is not done."""
    session = Session("default")
    with suppress(Error), session.isolation() as isolation:
        ((number,),) = sql("SELECT pg_current_xact_id()::text")
        own_server.restart("immediate")
    connection.close()
    while sql("SELECT pg_current_xact_id() < %s::xid8", number) == [(True,)]:
        pass
    assert sql("SELECT pg_xact_status(%s::xid8)", number) == [("committed",)]
    assert not session.was_committed(number, isolation.recovered_at)


def test_after_a_server_crash_the_new_owner_of_the_id_is_not_terminated(own_server: Server) -> None:
    """F29: it is at work, and none of ours."""
    session = Session("default")
    with session.isolation() as isolation:
        pass
    own_server.restart("immediate")
    connection.close()
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_current_xact_id()::text")
        ((number,),) = other.fetchall()
        assert not session.was_committed(number, isolation.recovered_at)
        other.execute("COMMIT")


LOST = {
    "close": connection.close,
    "close raw": lambda: connection.connection.close(),
    "terminate": lambda: listeners.execute("SELECT pg_terminate_backend(pg_backend_pid())"),
}


@pytest.mark.parametrize("how", LOST)
def test_a_raw_commit_followed_by_a_lost_connection_is_settled(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[str],
    how: str,
) -> None:
    """F29: the rest of the batch is put back, and who did it is charged where that is its fault."""

    def commit_and_lose() -> None:
        transaction.on_commit(lambda: listeners.note("never called back"))
        listeners.commit_raw()
        LOST[how]()

    monkeypatch.setitem(listeners.MOODS, "bad", commit_and_lose)
    jobs("call back", "bad", "good", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3, 4]
    assert called == [1, 2, 3, 4]
    ((number, row),) = stored().items()
    assert (number, row.attempts) == (2, 0 if how == "terminate" else 1)
    assert sorted(told) == ["failed", *["succeeded"] * 3]
    assert len(calls("called back")) == 1
    assert not calls("never called back")
    assert "has committed the transaction of its batch" in caplog.text
    logged = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert not any("rolled back" in one.getMessage() for one in logged)


def test_a_message_that_always_commits_and_loses_its_connection_is_parked(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29: a message alone, too, whose row is gone with what its listener has committed."""
    monkeypatch.setitem(
        listeners.MOODS, "bad", lambda: (listeners.commit_raw(), connection.close())
    )
    jobs("bad")
    for _ in range(10):
        hasten()
        drain(delivery)
    assert Notification.objects.parked().count() == 1
    assert len(called) == 10
