"""A batch with one bad message: what is undone, what is done again, and what neighbours notice."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections

from example.blog.models import Author, Post
from pgpubsub_sql import notify
from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import Job, Step
from tests.app.listeners import called
from tests.app.models import Entry
from tests.delivery.channels import LoneJob
from tests.delivery.sending import drain, hasten, jobs, warm_up
from tests.ledger import calls, numbers, sql, stored, stranger

pytestmark = pytest.mark.django_db(transaction=True)

UNDONE_BY_ITSELF = {
    "bad": "this listener is in a bad mood",
    "exit": "SystemExit: 3",
    "strange": "\\0 and \\udcff",
    "broken-sql": "no_such_column",
    "swallowed": "put what may fail into a transaction.atomic() block of its own",
    "dangling": "violates foreign key constraint",
    "rollback": "set_rollback(True)",
    "savepoint-less": "caught outside its atomic(savepoint=False) block",
    "never left": "did not leave it",
    "durable": "Set batch_size = 1 on the channel",
    "raw error": "no_such_column",
    "raw write": "after a write past Django",
    "copy": "missing data for column",
    "copy and fail": "after a COPY",
    "callproc": "no_such_function",
    "too long": "statement timeout",
    "call back and fail": "after having asked for a callback",
}
"""Moods of a message that costs its neighbours nothing, with what is kept of it."""

UNDOES_ITS_BATCH = {
    "close": "The listener closed the connection",
    "unseen error": "no_such_column",
    "unseen dangling": "violates foreign key constraint",
    "roll back raw": "rolled back the transaction",
    "roll back raw and write": "rolled back the transaction",
    "roll back raw and write seen": "rolled back the transaction",
}
"""Moods of a message whose batch is done again, one message a transaction."""

INNOCENT = ["serialization", "deadlock", "unseen deadlock", "terminate"]
"""Moods of a message that has failed for no fault of its own."""


@pytest.mark.parametrize("mood", UNDONE_BY_ITSELF)
def test_a_failing_message_does_not_affect_the_rest_of_its_batch(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P8, P10: undone by itself, logged with its traceback, channel and id, and kept."""
    jobs("good", mood, "quiet", mood, "good")
    delivery.handle_stored("app.Job")
    assert called == [1, 2, 3, 4, 5]
    assert numbers("do_job") == [1, 5]
    assert {entry.listener for entry in Entry.objects.all()} == {"do_job"}
    assert not Post.objects.exists()
    rows = stored()
    assert sorted(rows) == [2, 4]
    assert {row.attempts for row in rows.values()} == {1}
    assert all(UNDONE_BY_ITSELF[mood] in row.last_error for row in rows.values())
    assert all("Traceback" in row.last_error for row in rows.values())
    assert not any(row.alone for row in rows.values())
    logged = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert [one.exc_info is not None for one in logged] == [True, True]
    assert f"Notification {rows[2].id} of channel app.Job failed and will be retried in 1" in (
        logged[0].getMessage()
    )


@pytest.mark.parametrize("mood", UNDOES_ITS_BATCH)
def test_a_message_that_rolls_back_its_batch_is_found_and_charged(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P12, P8: done again one by one. Database effects are never doubled, others at most once."""
    jobs("good", mood, "good", mood, "good")
    drain(delivery)
    assert numbers("do_job") == [1, 3, 5]
    assert sorted(set(called)) == [1, 2, 3, 4, 5]
    assert max(called.count(number) for number in called) == 2
    assert not Post.objects.exists()
    rows = stored()
    assert sorted(rows) == [2, 4]
    assert {(row.attempts, row.alone) for row in rows.values()} == {(1, True)}
    assert all(UNDOES_ITS_BATCH[mood] in row.last_error for row in rows.values())
    assert not Notification.objects.ready().exists()
    assert caplog.text.count("each will be handled again, in a transaction of its own") == 1


@pytest.mark.parametrize("mood", UNDOES_ITS_BATCH)
def test_a_message_that_rolled_back_its_batch_is_retried_alone(
    delivery: Delivery, mood: str
) -> None:
    """It is retried alone, however many are ready with it."""
    jobs(mood)
    drain(delivery)
    called.clear()
    jobs("good", "good", "good")
    hasten()
    drain(delivery)
    assert sorted(called) == [1, 1, 2, 3]
    assert numbers("do_job") == [1, 2, 3]
    assert [row.attempts for row in stored().values()] == [2]


@pytest.mark.parametrize("channel", [Job, Step])
def test_a_message_that_rolls_back_its_batch_is_charged_by_any_worker(channel: Any) -> None:
    """Who did not lose the batch cannot know that what it takes first is to be alone."""
    for number, mood in enumerate(["close", "good", "good"], 1):
        account = {"account": str(number)} if channel is Step else {}
        notify(channel(number=number, mood=mood, **account))
    for _ in range(2):
        delivery, calls_before = Delivery([channel], using="default"), len(called)
        while len(called) == calls_before:
            delivery.handle_stored(channel.postgres_name())
    assert called == [1, 1]
    assert {number: row.attempts for number, row in stored().items()} == {1: 1, 2: 0, 3: 0}


@pytest.mark.parametrize("mood", INNOCENT)
def test_a_failure_that_is_not_the_messages_fault_is_no_attempt(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P9: a serialization failure, a deadlock, the end of the connection in the midst."""
    jobs("good", mood, "good")
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    (row,) = stored().values()
    assert (row.payload["number"], row.attempts) == (2, 0)
    assert not Notification.objects.ready().exists()
    assert Notification.objects.waiting().exists()
    assert "will be tried again in" in caplog.text
    assert "no fault of its own" in caplog.text


def test_a_deadlock_ends_the_batch(delivery: Delivery) -> None:
    """What the other side waits for may be held by an earlier message: the batch ends."""
    jobs("good", "deadlock", "good")
    delivery.handle_stored("app.Job")
    assert called == [1, 2]
    assert sorted(stored()) == [2, 3]


def test_a_listener_may_catch_errors_of_its_own_atomic_block(delivery: Delivery) -> None:
    jobs("good", "caught", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3]
    assert not stored()


def test_foreign_keys_are_still_deferred_within_a_message(delivery: Delivery) -> None:
    """The child may come before its parent, in each message of a batch."""

    def backwards() -> None:
        number = 1000 + len(listeners.called)
        post = Post.objects.create(author_id=number, title="", content="")
        Author.objects.create(id=number, name="")
        assert post.pk

    listeners.MOODS["backwards"] = backwards
    try:
        jobs("backwards", "backwards", "dangling", "backwards")
        drain(delivery)
    finally:
        del listeners.MOODS["backwards"]
    assert numbers("do_job") == [1, 2, 4]
    assert Post.objects.count() == 3


def test_batch_size_1_allows_durable_blocks(delivery: Delivery) -> None:
    jobs("good", "durable", "good", channel=LoneJob)
    drain(delivery, LoneJob)
    assert numbers("do_lone_job") == [1, 2, 3]
    assert len(calls("durable")) == 1
    assert not stored()


def test_a_durable_block_is_undone_with_its_message(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails after it undoes it, so that the message can be retried, and nothing is doubled."""
    durable, bad = listeners.MOODS["durable"], listeners.MOODS["bad"]
    monkeypatch.setitem(listeners.MOODS, "good", lambda: (durable(), bad()))
    jobs("good", channel=LoneJob)
    drain(delivery, LoneJob)
    assert not calls("durable")
    assert stored()[1].attempts == 1


@pytest.mark.parametrize("mood", ["durable", "bad"])
def test_batch_size_1_means_one_transaction_per_message(delivery: Delivery, mood: str) -> None:
    jobs("good", mood, "good", channel=LoneJob)
    delivery.handle_stored(LoneJob.postgres_name())
    with stranger() as other:
        other.execute("SELECT data->>'number' FROM app_entry")
        assert other.fetchall() == [("1",)]
    assert called == [1]


# --- Transactions that a listener ends by itself


@pytest.mark.parametrize(("mood", "done"), [("commit raw", [1, 2, 3]), ("COMMIT", [1, 2, 3])])
def test_a_raw_commit_loses_no_message(
    delivery: Delivery, mood: str, done: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """What was done is done; the rest of the batch is put back at once."""
    jobs("good", mood, "good")
    delivery.handle_stored("app.Job")
    assert called == [1, 2]
    assert sorted(stored()) == [3]
    drain(delivery)
    assert numbers("do_job") == done
    assert called == [1, 2, 3]
    assert not stored()
    assert "has committed the transaction of its batch" in caplog.text


def test_a_failure_after_a_raw_commit_is_retried(delivery: Delivery) -> None:
    """Its effects from before the COMMIT stay: this is what the log warns of."""
    jobs("good", "commit raw and fail", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3]
    assert [(n, row.attempts) for n, row in stored().items()] == [(2, 1)]


def test_the_rest_of_a_batch_survives_a_raw_commit_and_a_lost_connection(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else knows of it any more."""
    execute, losses = delivery.session.execute, iter([True])

    def losing(name: str, *arguments: object, **options: object) -> object:
        if name == "put_back" and next(losses, False):
            connection.connection.close()
        return execute(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(delivery.session, "execute", losing)
    jobs("good", "commit raw", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3]
    assert not stored()


def test_a_raw_commit_is_noticed_at_the_end_of_the_batch(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    jobs("good", "commit raw and write", "good", "bad")
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    assert called == [1, 2, 3, 4]
    assert sorted(stored()) == [4]
    assert "has committed the transaction of its batch" in caplog.text


def test_a_batch_that_fails_at_commit_is_handled_again(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failures = connection.commit, iter([True])

    def failing() -> None:
        if next(failures, False):
            sql("SELECT no_such_column")
        commit()

    drain(delivery)
    jobs("good", "good")
    monkeypatch.setattr(connection, "commit", failing)
    drain(delivery)
    assert numbers("do_job") == [1, 2]
    assert not stored()


def test_a_connection_lost_at_commit_is_no_attempt(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, losses = connection.commit, iter([True])

    def losing() -> None:
        if next(losses, False):
            pid = connection.connection.info.backend_pid
            with stranger() as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        commit()

    warm_up(delivery)
    jobs("good")
    monkeypatch.setattr(connection, "commit", losing)
    drain(delivery)
    assert [(row.attempts, row.alone) for row in stored().values()] == [(0, True)]
    monkeypatch.undo()
    hasten()
    drain(delivery)
    assert numbers("do_job") == [1]


def test_a_failure_is_not_recorded_if_another_worker_was_faster(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the rollback and the charge another worker may have handled it, or failed, too."""
    jobs("close")
    charge = delivery.session.record_failure

    def late(*arguments: Any) -> None:
        sql("UPDATE pgpubsub_sql_notification SET attempts = 5, last_error = 'another'")
        charge(*arguments)

    monkeypatch.setattr(delivery.session, "record_failure", late)
    delivery.handle_stored("app.Job")
    assert [(row.attempts, row.last_error) for row in stored().values()] == [(5, "another")]


# --- What is outside the transaction


@pytest.fixture
def other_alias(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same database under another alias."""
    monkeypatch.setitem(connections.settings, "other", connection.settings_dict)
    connections["other"] = connection.copy(alias="other")
    connections["other"].connect()
    yield
    connections["other"].close()
    del connections["other"]


@pytest.mark.usefixtures("other_alias")
def test_writes_to_other_aliases_are_not_in_the_transaction(delivery: Delivery) -> None:
    """What goes through another alias is committed as it comes, and again with each attempt."""
    listeners.MOODS["elsewhere and fail"] = lambda: (
        listeners.write_elsewhere(),
        listeners.fail("after a write elsewhere"),
    )
    try:
        jobs("good", "elsewhere", "elsewhere and fail")
        drain(delivery)
    finally:
        del listeners.MOODS["elsewhere and fail"]
    assert numbers("do_job") == [1, 2]
    assert len(calls("elsewhere")) == 2
    assert sorted(stored()) == [3]


@pytest.mark.usefixtures("other_alias")
def test_old_connections_of_other_aliases_are_closed(delivery: Delivery) -> None:
    """As after a request, by CONN_MAX_AGE, so that none is found dead by the next message."""
    jobs("elsewhere")
    drain(delivery)
    assert connections["other"].connection is None


def test_writes_of_a_thread_are_not_in_the_transaction(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes stays, though its message fails."""
    thread, bad = listeners.MOODS["thread"], listeners.MOODS["bad"]
    monkeypatch.setitem(listeners.MOODS, "bad", lambda: (thread(), bad()))
    others = set(threading.enumerate())  # which other tests have left
    jobs("good", "thread", "bad", "good")
    delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1, 2, 4]
    assert sorted(stored()) == [3]
    assert len(calls("thread")) == 2
    assert set(threading.enumerate()) <= others


def test_writes_of_an_unseen_cursor_outlast_a_later_failure(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a message that fails after it; an error of the cursor's own undoes the batch instead."""
    monkeypatch.setattr(listeners, "SILENT", ("bad",))
    monkeypatch.setitem(
        listeners.MOODS,
        "bad",
        lambda: (
            listeners.unseen_cursor().execute(
                "INSERT INTO app_entry (listener, data, pid) VALUES ('unseen', '{}', 0)"
            ),
            listeners.fail("after a write that nobody has seen"),
        ),
    )
    jobs("good", "bad", "good")
    delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1, 3]
    assert len(calls("unseen")) == 1
    assert sorted(stored()) == [2]


def test_the_session_has_no_timeouts_and_checks_its_client(delivery: Delivery) -> None:
    """A transaction that the server ends would be begun again and again; and a death be noticed."""
    ending = ["idle_in_transaction_session_timeout", "transaction_timeout"]
    known = [row for (row,) in sql("SELECT name FROM pg_settings WHERE name = ANY (%s)", ending)]
    connection.close()
    with stranger() as other:
        name = connection.settings_dict["NAME"]
        for one in known:
            other.execute(f"ALTER DATABASE {name} SET {one} = '5min'")
        try:
            drain(delivery)
        finally:
            for one in known:
                other.execute(f"ALTER DATABASE {name} RESET {one}")
    assert "idle_in_transaction_session_timeout" in known  # transaction_timeout since 17
    assert [sql(f"SHOW {one}") for one in known] == [[("0",)]] * len(known)
    assert sql("SHOW client_connection_check_interval") == [("1s",)]


# --- Coroutines


async def write_then(mood: str) -> None:
    await Entry.objects.acreate(listener="async", data={"mood": mood})
    if mood == "fail":
        raise RuntimeError("in a coroutine")
    if mood == "query":
        await sync_to_async(listeners.execute)("SELECT no_such_column")
    if mood == "swallow":
        await sync_to_async(listeners.swallow)()
    if mood == "cancel":
        raise asyncio.CancelledError


@pytest.mark.parametrize("mood", ["fail", "query", "swallow", "cancel"])
def test_an_async_listener_is_undone_by_itself(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, mood: str
) -> None:
    """Its ORM work is in the transaction of its batch, under its own savepoint."""
    for name in ("good", "bad"):
        wanted = "well" if name == "good" else mood
        monkeypatch.setitem(listeners.MOODS, name, partial(async_to_sync(write_then), wanted))
    jobs("good", "bad", "good")
    delivery.handle_stored("app.Job")
    assert called == [1, 2, 3]
    assert calls("async") == [{"mood": "well"}] * 2
    assert [(number, row.attempts) for number, row in stored().items()] == [(2, 1)]
