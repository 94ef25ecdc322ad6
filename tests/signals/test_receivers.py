"""Receivers that do harm, and what they cost if there are none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.dispatch import Signal

from pgpubsub_sql import Notification, signals
from pgpubsub_sql.worker import attempts, reporting
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.isolation import Isolation
from tests.app.channels import Shout
from tests.app.models import Entry
from tests.delivery.sending import drain, jobs
from tests.ledger import numbers, sql, stored
from tests.signals.support import ALL, extras, names
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


def fail(**arguments: Any) -> None:
    raise RuntimeError("this receiver is in a bad mood")


def leave(**arguments: Any) -> None:
    sys.exit(3)


def write_and_fail(**arguments: Any) -> None:
    Entry.objects.create(listener="receiver", data={})
    with connection.cursor() as cursor:
        cursor.execute("SELECT no_such_column")


@pytest.mark.parametrize("receiver", [fail, leave, write_and_fail])
def test_an_error_in_a_receiver_has_no_effect(
    delivery: Delivery,
    connect: Callable[..., None],
    receiver: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, signal in ALL.items():
        if name.startswith("message"):
            connect(signal, receiver)
    jobs("good", "bad", "good", "close", "good")
    sql("SELECT pgpubsub_notify('app.Job', '{}')")
    drain(delivery)
    hear(delivery, "app.Shout", '{"number": 1}')
    hear(delivery, "app.Shout", '{"number": 2, "mood": "bad"}')
    assert sorted(numbers("do_job")) == [1, 3, 5]
    assert numbers("hear") == [1]
    assert {row.attempts for row in stored().values()} == {1}
    assert Notification.objects.parked().count() == 1
    assert "receiver" in caplog.text


def test_writes_of_a_receiver_outlast_a_failed_message(
    delivery: Delivery, connect: Callable[..., None]
) -> None:
    """Within the batch it stays, though the message fails; afterwards it is a transaction's."""

    def write(signal: Signal, **arguments: Any) -> None:
        Entry.objects.create(listener="receiver", data={})
        assert connection.in_atomic_block == (signal is signals.message_received)

    connect(signals.message_received, write)
    connect(signals.message_failed, write)
    jobs("bad")
    delivery.handle_stored("app.Job")
    assert Entry.objects.filter(listener="receiver").count() == 2


def test_a_receiver_that_breaks_the_transaction_is_undone_and_logged(
    delivery: Delivery, connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def mark(**arguments: Any) -> None:
        transaction.set_rollback(True)

    connect(signals.message_received, mark)
    jobs("good")
    drain(delivery)
    assert numbers("do_job") == [1]
    assert "Receivers of message_received failed for a message of channel app.Job" in caplog.text
    assert extras(caplog.records[0])["channel"] == "app.Job"
    assert extras(caplog.records[0])["attempt"] == 1


def test_a_rollback_by_a_receiver_is_not_blamed_on_a_listener(
    delivery: Delivery, connect: Callable[..., None], told: list[Any]
) -> None:
    """Nor that of the one which the message before it has come to."""
    jobs("good")
    drain(delivery)
    connect(signals.message_received, lambda **_: connection.close())
    jobs("good")
    delivery.handle_stored("app.Job")
    assert names(told)[-1] == "message_failed"
    assert told[-1][1]["listener"] == ""


def test_without_receivers_nothing_is_prepared_for_them(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is made to be told."""

    def never(*arguments: Any, **named: Any) -> None:
        raise AssertionError

    runs: list[Any] = []
    run = Isolation.run
    monkeypatch.setattr(reporting, "send", never)
    monkeypatch.setattr(attempts, "notification", never)
    monkeypatch.setattr(Isolation, "run", lambda *args: runs.append(args) or run(*args))
    sql("SELECT pgpubsub_notify('app.Shout', '{\"number\": 1}')")
    drain(delivery, Shout)
    assert numbers("hear_only_number") == [1]
    assert len(runs) == 1
