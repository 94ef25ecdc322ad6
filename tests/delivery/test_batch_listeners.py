"""Batch listeners: one call with a list, and what becomes of it if a message of it is bad."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone, translation

import pgpubsub_sql
from pgpubsub_sql import Discard, PartialFailure, RetryAfter, notify, notify_many, signals
from pgpubsub_sql.listeners import Listener
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import list_batch, outcomes
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.dispatch import Dispatcher
from tests.app import listeners
from tests.app.channels import Load
from tests.app.listeners import execute, fail, lists, note, unload
from tests.app.models import Entry, Item
from tests.conftest import Listen, eventually
from tests.delivery.channels import Async, Pile
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import calls, numbers, sql, stored, stranger
from tests.registries import blank

__all__ = ("blank",)

pytestmark = pytest.mark.django_db(transaction=True)

CHANNELS = [Load, Pile, Async]


@pytest.fixture
def delivery(transactional_db: None) -> Delivery:
    return Delivery(CHANNELS, using="default", schema="public")


@pytest.fixture(autouse=True)
def without_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the test is, no batch ends for want of time."""
    monkeypatch.setattr(list_batch, "LIST_SECONDS", 60.0)


def loads(*moods: str) -> None:
    jobs(*moods, channel=Load)


def piles(*moods: str, accounts: str = "a") -> None:
    """Store for each account a message per mood, numbered from 1, one account after another."""
    with transaction.atomic():
        for account in accounts:
            for number, mood in enumerate(moods, 1):
                notify(Pile(account, number, mood))


def sized(delivery: Delivery, size: int, channel: Any = Load) -> None:
    delivery._states[Lane(channel.postgres_name())].sizing._size = size


def calling(channel: Any, function: Callable[..., Any]) -> Delivery:
    """Return a delivery that calls this function instead of the listener."""

    class Instead(Dispatcher):
        def caller(self, listener: Listener) -> Callable[..., Any]:
            return function

    return Delivery([channel], using="default", dispatcher=Instead)


def test_all_messages_of_a_batch_are_one_call(delivery: Delivery) -> None:
    loads(*["good"] * 7)
    drain(delivery, Load)
    assert lists == [[1, 2, 3, 4, 5, 6, 7]]
    assert numbers("load") == [1, 2, 3, 4, 5, 6, 7]
    assert not stored()


def test_who_fails_alone_is_charged_and_the_others_are_handled(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """Halved, left before right; what a failed call wrote is undone."""
    loads("good", "good", "good", "bad", "good", "good")
    delivery.handle_stored("app.Load")
    assert lists == [[1, 2, 3, 4, 5, 6], [1, 2, 3], [4, 5, 6], [4, 5], [4], [5], [6]]
    assert numbers("load") == [1, 2, 3, 5, 6]
    (row,) = stored().values()
    assert (row.payload["number"], row.attempts, row.alone) == (4, 1, False)
    assert "this listener is in a bad mood" in row.last_error
    assert "The batch listener tests.app.listeners.load failed for 6 messages" in caplog.text
    assert f"Notification {row.id} of channel app.Load failed and will be retried" in caplog.text
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize(
    "mood",
    [
        *("exit", "strange", "broken-sql", "swallowed", "dangling", "rollback", "never left"),
        *("savepoint-less", "durable", "raw error", "copy", "too long", "call back and fail"),
        "unseen error",
    ],
)
def test_whatever_a_savepoint_undoes_is_found_by_halving(delivery: Delivery, mood: str) -> None:
    loads("good", "good", mood, "good")
    delivery.handle_stored("app.Load")
    assert numbers("load") == [1, 2, 4]
    assert {entry.listener for entry in Entry.objects.all()} == {"load"}
    assert [(number, row.attempts, row.alone) for number, row in stored().items()] == [
        (3, 1, False)
    ]


@pytest.mark.parametrize("mood", ["close", "roll back raw", "kill the backend"])
def test_what_no_savepoint_undoes_is_found_one_by_one(
    delivery: Delivery, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        listeners.MOODS,
        "kill the backend",
        lambda: execute("SELECT pg_terminate_backend(pg_backend_pid())"),
    )
    loads("good", "good", mood, "good")
    drain(delivery, Load)
    assert lists == [[1, 2, 3, 4], [1], [2], [3], [4]]
    assert numbers("load") == [1, 2, 4]
    (row,) = stored().values()
    is_innocent = mood == "kill the backend"
    assert (row.payload["number"], row.attempts, row.alone) == (3, not is_innocent, True)


def test_one_message_that_fails_is_charged_until_it_is_parked(delivery: Delivery) -> None:
    piles("bad")
    for attempts in (1, 2, 3):
        drain(delivery, Pile)
        (row,) = stored().values()
        assert row.attempts == attempts
        hasten()
    assert row.available_at is None
    assert Notification.objects.parked().count() == 1


@pytest.mark.parametrize("count", [2, 3, 10])
def test_an_outage_charges_nobody(
    delivery: Delivery, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    loads(*["bad"] * count)
    delivery.handle_stored("app.Load")
    assert {row.attempts for row in stored().values()} == {0}
    assert len(stored()) == count
    assert all(row.available_at > row.failed_at for row in stored().values())
    assert 0 < delivery.rest(Lane("app.Load")) <= 0.1
    assert caplog.text.count("This seems to be an outage") == 1
    assert caplog.text.count("Traceback") == 1
    assert "will be retried" not in caplog.text
    hasten()
    delivery.handle_stored("app.Load")
    assert 0.05 < delivery.rest(Lane("app.Load")) <= 0.2


def test_an_outage_that_does_not_end_charges_one_message_at_a_time(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Or messages that are all bad would be tried for ever."""
    monkeypatch.setattr(list_batch, "FREE_OUTAGES", 2)
    loads("bad", "bad", "bad")
    for charged in (0, 0, 1, 2):
        delivery.handle_stored("app.Load")
        assert sum(row.attempts for row in stored().values()) == charged
        sql("UPDATE pgpubsub_sql_notification SET available_at = now() WHERE attempts = 0")
    assert caplog.text.count("no message is charged") == 2
    assert caplog.text.count("it has lasted so long that one message is charged") == 2


def test_a_success_ends_an_outage(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_batch, "FREE_OUTAGES", 1)
    loads("bad", "bad")
    delivery.handle_stored("app.Load")
    Notification.objects.all().delete()
    loads("good")
    delivery.handle_stored("app.Load")
    loads("bad", "bad")
    delivery.handle_stored("app.Load")
    assert {row.attempts for row in stored().values()} == {0}


def test_after_an_outage_everything_is_handled(delivery: Delivery) -> None:
    loads(*["bad at first"] * 5)
    delivery.handle_stored("app.Load")
    listeners.MOODS["bad at first"], bad = lambda: None, listeners.MOODS["bad at first"]
    try:
        hasten()
        drain(delivery, Load)
    finally:
        listeners.MOODS["bad at first"] = bad
    assert sorted(numbers("load")) == [1, 2, 3, 4, 5]
    assert delivery.rest(Lane("app.Load")) == 0
    assert not stored()


def test_a_batch_ends_after_so_many_calls_and_the_next_is_a_quarter_as_large(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest goes back as it was, and is taken next."""
    monkeypatch.setattr(list_batch, "LIST_CALLS", 5)
    loads(*["bad", "good"] * 8)
    sized(delivery, 16)
    assert delivery.handle_stored("app.Load")
    assert lists == [[*range(1, 17)], [*range(1, 9)], [1, 2, 3, 4], [1, 2], [1], [*range(9, 17)]]
    # The right half was a probe, as nothing had succeeded; it failed, so nobody is charged.
    assert {row.attempts for row in stored().values()} == {0}
    assert delivery._states[Lane("app.Load")].sizing._size == 4
    assert delivery.rest(Lane("app.Load")) > 0


def test_the_rest_of_a_batch_that_ends_goes_back_uncharged(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_batch, "LIST_CALLS", 6)
    loads("bad", *["good"] * 6, "bad")
    sized(delivery, 8)
    assert delivery.handle_stored("app.Load")
    assert lists == [[*range(1, 9)], [1, 2, 3, 4], [1, 2], [1], [2], [3, 4]]
    assert {number: row.attempts for number, row in stored().items()} == {
        1: 1,
        5: 0,
        6: 0,
        7: 0,
        8: 0,
    }
    assert numbers("load") == [2, 3, 4]
    assert {row.last_error for number, row in stored().items() if number > 4} == {""}
    assert delivery._states[Lane("app.Load")].sizing._size == 2
    drain(delivery, Load)
    assert numbers("load") == [2, 3, 4, 5, 6, 7]
    assert {number: row.attempts for number, row in stored().items()} == {1: 1, 8: 1}


def test_a_batch_whose_first_messages_are_bad_is_no_outage(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is taken for one, the last part is tried."""
    monkeypatch.setattr(list_batch, "LIST_CALLS", 8)
    loads(*["bad"] * 8, *["good"] * 8)
    sized(delivery, 16)
    delivery.handle_stored("app.Load")
    assert numbers("load") == [*range(9, 17)]
    assert {number: row.attempts for number, row in stored().items()} == {
        **dict.fromkeys((1, 2, 3), 1),
        **dict.fromkeys((4, 5, 6, 7, 8), 0),
    }
    assert delivery.rest(Lane("app.Load")) == 0


def test_a_batch_ends_after_so_many_savepoints(delivery: Delivery) -> None:
    """Those of the listener count: beyond 64 PostgreSQL keeps track of them on disk."""
    loads("good", "bad", *["good"] * 6)

    def atomic_each(messages: list[Load]) -> None:
        for one in messages:
            with transaction.atomic():
                note("load", number=one.number)
        for one in messages:
            listeners.MOODS[one.mood]()

    delivery = calling(Load, atomic_each)
    sized(delivery, 8)
    list_batch_limit = 12
    delivery._states[Lane("app.Load")].sizing.start = lambda: list_batch.BatchLimits(  # type: ignore[method-assign]
        messages=8, until=float("inf"), savepoints=list_batch_limit
    )
    delivery.handle_stored("app.Load")
    # 9 for all, then 5 for the left half: the probe of the right half succeeds.
    assert numbers("load") == [5, 6, 7, 8]
    assert {row.attempts for row in stored().values()} == {0}


def test_a_batch_ends_after_some_time_but_two_messages_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = list_batch.ListSizing.start
    begun = []

    def end_in_time(messages: list[Load]) -> None:
        object.__setattr__(begun[-1], "until", 0.0)
        unload("load", messages)

    def begin(sizing: list_batch.ListSizing) -> list_batch.BatchLimits:
        begun.append(start(sizing))
        return begun[-1]

    monkeypatch.setattr(list_batch.ListSizing, "start", begin)
    loads("good", "bad", "good", "good")
    delivery = calling(Load, end_in_time)
    delivery.handle_stored("app.Load")
    assert lists == [[1, 2, 3, 4], [3, 4]]
    drain(delivery, Load)
    assert lists[2:] == [[1, 2], [1], [2]]
    assert numbers("load") == [3, 4, 1]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1}


def test_batches_grow_up_to_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Load, "batch_size", 25)
    loads(*["good"] * 60)
    delivery = Delivery([Load], using="default")
    drain(delivery, Load)
    assert [len(one) for one in lists] == [10, 20, 25, 5]


def test_batches_are_bounded_by_bytes(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpubsub_sql.worker.claims.CLAIM_BYTES", 200)
    loads(*["good"] * 9)
    drain(delivery, Load)
    assert len(lists) > 2
    assert numbers("load") == [*range(1, 10)]


# --- Order


def test_a_failure_blocks_its_key_in_the_list_and_across_halves(delivery: Delivery) -> None:
    piles("good", "bad", "good", "good", accounts="a")
    piles("good", "good", accounts="b")
    drain(delivery, Pile)
    assert [(one.payload["account"], one.payload["number"], one.attempts) for one in waiting()] == [
        ("a", 2, 1),
        ("a", 3, 0),
        ("a", 4, 0),
    ]
    assert lists[0] == [1, 2, 3, 4, 1, 2]
    assert sorted(numbers("pile")) == [1, 1, 2]
    assert all(one != [3] and one != [4] for one in lists)


def waiting() -> list[Notification]:
    return list(Notification.objects.order_by("id"))


def test_a_first_message_that_fails_is_charged_though_it_blocks_all_others(
    delivery: Delivery,
) -> None:
    """Nothing else can be called, so nothing can succeed: that is no outage."""
    piles("bad", "good", "good")
    drain(delivery, Pile)
    assert [one.attempts for one in waiting()] == [1, 0, 0]
    assert delivery.rest(Lane(Pile.postgres_name())) == 0
    assert numbers("pile") == []


def test_a_parked_message_unblocks_its_key(delivery: Delivery) -> None:
    piles("bad", "good", "good")
    for _ in range(3):
        drain(delivery, Pile)
        hasten()
    drain(delivery, Pile)
    assert numbers("pile") == [2, 3]
    assert Notification.objects.parked().count() == 1


@pytest.mark.parametrize("payload", ['{"account": "a"}', '{"account": "a", "number": "x"}'])
def test_a_message_that_cannot_be_read_yet_blocks_its_key(
    delivery: Delivery, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "READ_AGAIN_SECONDS", (500,))
    piles("good")
    sql("SELECT pgpubsub_notify(%s, %s::jsonb)", Pile.postgres_name(), payload)
    sql("UPDATE pgpubsub_sql_notification SET key = '[\"a\"]'")
    piles("good", accounts="ab")
    drain(delivery, Pile)
    assert lists == [[1, 1]]
    assert [(one.attempts, one.unreadable) for one in waiting()] == [(0, 1), (0, 0)]


# --- What never reaches the listener


def test_what_cannot_be_read_has_expired_or_is_not_wanted_is_left_out(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    loads("good", "good")
    sql("SELECT pgpubsub_notify('app.Load', '{\"number\": \"x\"}')")
    sql("SELECT pgpubsub_notify('app.Load', '{\"$raw\": \"{\"}')")
    notify(Load(number=5), expires=timezone.now() - datetime.timedelta(1))
    loads("bad", "good")
    with caplog.at_level(logging.INFO, "pgpubsub_sql.worker"):
        drain(delivery, Load)
    assert lists[0] == [1, 2, 1, 2]
    assert numbers("load") == [1, 2, 2]
    left = list(Notification.objects.order_by("id").values_list("attempts", "available_at"))
    assert [(attempts, at is None) for attempts, at in left] == [(1, True), (1, True), (1, False)]
    assert "1 notifications of channel app.Load had expired" in caplog.text


@pytest.fixture
def items(blank: None) -> Any:
    """A channel of rows in lists, which no migration has installed."""

    class Items(pgpubsub_sql.TriggerChannel):
        """Rows in lists."""

        model = Item
        lock_notifications = True

    @pgpubsub_sql.batch_listener(Items, events=("insert", "delete"))
    def read_items(
        changes: list[pgpubsub_sql.Change[Item]], contexts: list[Any], notifications: list[Any]
    ) -> None:
        for change, context, notification in zip(changes, contexts, notifications, strict=True):
            row = change.new or change.old
            note(
                "read_items",
                op=change.op,
                name=row.name,
                amount=str(row.amount),
                context=dict(context),
                attempts=notification.attempts,
            )

    return Items


def store_change(channel: Any, op: str, **row: Any) -> None:
    filled = {"id": 1, "name": "", "number": 0, "amount": "1.50", "data": {}} | row
    change = {"op": op, "when": "AFTER", "old": None, "new": None, "context": {"user": "Zoë"}}
    change["old" if op == "DELETE" else "new"] = filled
    if op == "UPDATE":
        change["old"] = filled
    sql("SELECT pgpubsub_notify(%s, %s::jsonb)", channel.postgres_name(), json.dumps(change))


def test_rows_come_as_changes_with_their_context(
    items: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store_change(items, "INSERT", name="one")
    store_change(items, "UPDATE", name="two")
    store_change(items, "DELETE", name="three")
    drain(Delivery([items], using="default", schema="public"), items)
    assert calls("read_items") == [
        {
            "op": op,
            "name": name,
            "amount": "1.50",
            "context": {"user": "Zoë"},
            "attempts": 0,
        }
        for op, name in (("INSERT", "one"), ("DELETE", "three"))
    ]
    assert "no listener takes the event after_update" in caplog.text
    assert not stored()


# --- What the listener says


def partly(*named: int, error: BaseException | None = None) -> Callable[[list[Any]], None]:
    """Return a listener that writes all but some, which it names."""

    def listener(messages: list[Any]) -> None:
        lists.append([one.number for one in messages])
        for one in messages:
            if one.number not in named:
                note("partly", number=one.number)
        failed = [one for one in messages if one.number in named]
        if failed:
            raise PartialFailure((one, error or ValueError(f"of {one.number}")) for one in failed)

    return listener


def test_a_partial_failure_names_those_that_failed_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loads(*["good"] * 5)
    delivery = calling(Load, partly(2, 5))
    delivery.handle_stored("app.Load")
    assert lists == [[1, 2, 3, 4, 5]]
    assert numbers("partly") == [1, 3, 4]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1, 5: 1}
    assert "ValueError: of 2" in stored()[2].last_error
    assert caplog.text.count("will be retried") == 2


@pytest.mark.parametrize("error", [Discard("why"), RetryAfter(1000)])
def test_a_partial_failure_may_discard_and_retry_after(error: Exception) -> None:
    loads("good", "good")
    delivery = calling(Load, partly(1, error=error))
    delivery.handle_stored("app.Load")
    assert numbers("partly") == [2]
    left = {number: row.attempts for number, row in stored().items()}
    assert left == ({} if isinstance(error, Discard) else {1: 1})


def test_all_named_is_no_outage() -> None:
    loads("good", "good")
    delivery = calling(Load, partly(1, 2))
    delivery.handle_stored("app.Load")
    assert {row.attempts for row in stored().values()} == {1}
    assert delivery.rest(Lane("app.Load")) == 0


def test_a_partial_failure_of_a_key_undoes_the_later_messages_of_it() -> None:
    """They are not handled before the one that failed: the call is made again without them."""
    with transaction.atomic():
        for account, number in (("a", 1), ("a", 2), ("a", 3), ("b", 4)):
            notify(Pile(account, number))
    delivery = calling(Pile, partly(2))
    drain(delivery, Pile)
    assert lists == [[1, 2, 3, 4], [1, 4]]
    assert numbers("partly") == [1, 4]
    assert [(one.payload["number"], one.attempts) for one in waiting()] == [(2, 1), (3, 0)]


def test_of_a_key_only_the_first_that_was_named_is_charged() -> None:
    with transaction.atomic():
        for number in (1, 2, 3):
            notify(Pile("a", number))
    delivery = calling(Pile, partly(2, 3))
    drain(delivery, Pile)
    assert lists == [[1, 2, 3]]
    assert [(one.payload["number"], one.attempts) for one in waiting()] == [(2, 1), (3, 0)]


@pytest.mark.parametrize("savepoint", [True, False])
def test_a_partial_failure_inside_an_atomic_block_loses_nothing(savepoint: bool) -> None:
    """The block undoes what the others wrote. So they are called again, and not taken for done."""
    loads(*["good"] * 3)
    delivery = calling(Load, transaction.atomic(savepoint=savepoint)(partly(2)))
    drain(delivery, Load)
    assert numbers("partly") == [1, 3]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1}


def test_blocks_for_each_message_are_left_before_a_partial_failure() -> None:
    """So the call is not made again."""

    def each(messages: list[Load]) -> None:
        lists.append([one.number for one in messages])
        failed = []
        for one in messages:
            try:
                with transaction.atomic():
                    note("each", number=one.number)
                    listeners.MOODS[one.mood]()
            except Exception as error:  # noqa: BLE001
                failed.append((one, error))
        if failed:
            raise PartialFailure(failed)

    loads("good", "broken-sql", "good", "bad")
    delivery = calling(Load, each)
    delivery.handle_stored("app.Load")
    assert lists == [[1, 2, 3, 4]]
    assert numbers("each") == [1, 3]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1, 4: 1}


def test_a_partial_failure_that_names_a_stranger_fails_the_call() -> None:
    def careless(messages: list[Load]) -> None:
        raise PartialFailure([(Load(number=one.number), ValueError()) for one in messages])

    loads("good")
    delivery = calling(Load, careless)
    delivery.handle_stored("app.Load")
    (row,) = stored().values()
    assert row.attempts == 1
    assert "is not an object of the list that the listener was called with" in row.last_error


def test_a_partial_failure_has_to_name_messages_and_exceptions() -> None:
    with pytest.raises(ValueError, match="names no message"):
        PartialFailure([])
    for wrong in ([1], [(1, "error")], [(1, ValueError(), 2)]):
        with pytest.raises(TypeError, match="pairs of a message and its exception"):
            PartialFailure(wrong)  # type: ignore[arg-type]


def test_discard_discards_who_raises_it_alone(delivery: Delivery) -> None:
    loads("good", "discard", "good")
    drain(delivery, Load)
    assert numbers("load") == [1, 3]
    assert not stored()


def test_retry_after_ends_the_batch_and_charges_nobody(delivery: Delivery) -> None:
    """A server that asks to be left alone is not called forty times."""
    loads(*["retry after"] * 8)
    delivery.handle_stored("app.Load")
    assert len(lists) == 1
    assert {row.attempts for row in stored().values()} == {0}
    ((seconds,),) = sql(
        "SELECT extract(epoch FROM min(available_at) - clock_timestamp())"
        " FROM pgpubsub_sql_notification"
    )
    assert 900 < seconds <= 1000
    assert delivery.rest(Lane("app.Load")) > 0


def test_retry_after_is_charged_if_it_is_raised_for_one_message(delivery: Delivery) -> None:
    loads("good", "retry after")
    delivery.handle_stored("app.Load")
    assert lists == [[1, 2], [1], [2]]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1}


@pytest.mark.parametrize("mood", ["serialization", "deadlock"])
def test_a_deadlock_postpones_the_call_and_ends_the_batch(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    loads("good", mood, "good", "good")
    delivery.handle_stored("app.Load")
    assert lists == [[1, 2, 3, 4]]
    assert {row.attempts for row in stored().values()} == {0}
    assert not Notification.objects.ready().exists()
    assert delivery.rest(Lane("app.Load")) == 0
    assert "outage" not in caplog.text


def test_what_a_listener_has_committed_is_not_called_again_in_this_batch(
    delivery: Delivery,
) -> None:
    """Nothing of it can be undone, so all that it was called with have failed."""
    loads("good", "commit raw and fail", "good")
    delivery.handle_stored("app.Load")
    assert lists == [[1, 2, 3]]
    assert numbers("load") == [1, 2, 3]
    assert {row.attempts for row in stored().values()} == {1}


def test_a_commit_after_which_all_is_well_handles_the_list(delivery: Delivery) -> None:
    loads("good", "commit raw", "good")
    delivery.handle_stored("app.Load")
    assert numbers("load") == [1, 2, 3]
    assert not stored()


# --- Time, callbacks, the session


def test_a_coroutine_gets_a_list(delivery: Delivery) -> None:
    jobs("good", "bad", "good", channel=Async)
    drain(delivery, Async)
    assert numbers("load_async") == [1, 3]
    assert {number: row.attempts for number, row in stored().items()} == {2: 1}


def test_a_call_that_takes_too_long_is_interrupted_and_halved(delivery: Delivery) -> None:
    jobs("good", "sleep", channel=Async)
    drain(delivery, Async)
    assert numbers("load_async") == [1]
    (row,) = stored().values()
    assert row.attempts == 1
    assert "ListenerTimeout" in row.last_error


def test_a_query_that_takes_too_long_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Load, "timeout", 0.5)
    monkeypatch.setitem(listeners.MOODS, "slow", lambda: execute("SELECT pg_sleep(60)"))
    loads("good", "slow")
    delivery = Delivery([Load], using="default")
    delivery.handle_stored("app.Load")
    assert numbers("load") == [1]
    assert "ListenerTimeout" in stored()[2].last_error


def test_callbacks_of_calls_that_failed_are_dropped(delivery: Delivery) -> None:
    loads("call back", "bad", "good")
    drain(delivery, Load)
    assert len(calls("called back")) == 1
    assert numbers("load") == [1, 3]


SETTINGS = (
    "SET search_path = pg_catalog",
    "SET ROLE pg_monitor",
    "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
    "SET statement_timeout = '7s'",
)


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("statement", SETTINGS)
def test_the_session_is_restored_after_each_call(statement: str, fails: bool) -> None:
    """Whether it succeeds or not, and whether a call of the same batch follows."""
    seen = []

    def untidy(messages: list[Load]) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('search_path'), current_user,"
                " current_setting('TimeZone'), current_setting('statement_timeout')"
            )
            seen.append(cursor.fetchone())
        execute(statement)
        if fails and len(messages) > 1:
            fail("together")

    loads("good", "good")
    delivery = calling(Load, untidy)
    drain(delivery, Load)
    loads("good")
    drain(delivery, Load)
    assert len(seen) == (4 if fails else 2)
    assert len(set(seen)) == 1
    assert not stored()


def test_a_context_variable_ends_with_the_call(delivery: Delivery) -> None:
    seen = []

    def speaks(messages: list[Load]) -> None:
        seen.append(translation.get_language())
        translation.activate("de")
        if len(messages) > 1:
            fail("together")

    loads("good", "good")
    delivery = calling(Load, speaks)
    drain(delivery, Load)
    assert "de" not in seen
    assert len(seen) == 3


# --- Reports


def test_signals_are_sent_for_each_message(delivery: Delivery) -> None:
    heard: list[tuple[str, int, str | None]] = []

    def listen(kind: str) -> Callable[..., None]:
        def receiver(notification: Any, listener: str | None = None, **kwargs: Any) -> None:
            heard.append((kind, notification.id, listener))

        return receiver

    receivers = {
        name: listen(name) for name in ("message_received", "message_succeeded", "message_failed")
    }
    loads("good", "bad", "good")
    ids = {number: row.id for number, row in stored().items()}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        drain(delivery, Load)
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert heard == [
        *(("message_received", ids[number], None) for number in (1, 2, 3)),
        ("message_succeeded", ids[1], None),
        ("message_failed", ids[2], "tests.app.listeners.load"),
        ("message_succeeded", ids[3], None),
    ]


def test_successes_are_logged_and_have_their_share_of_the_time(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    loads("good", "good")
    with caplog.at_level(logging.DEBUG, "pgpubsub_sql.worker"):
        drain(delivery, Load)
    assert caplog.text.count("Handled a message of channel app.Load in 0.0") == 2


def counted(delivery: Delivery) -> dict[str, Any]:
    values = delivery.counters.values()
    at = values["listener"].index("tests.app.listeners.load")
    return {name: values[name][at] for name in ("handled", "failed", "parked", "discarded")}


def test_each_message_is_counted_once_however_often_it_was_in_a_call(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_batch, "LIST_CALLS", 6)
    loads("bad", *["good"] * 6, "discard")
    sized(delivery, 8)
    delivery.handle_stored("app.Load")
    assert counted(delivery) == {"handled": 3, "failed": 1, "parked": 0, "discarded": 0}
    drain(delivery, Load)
    assert counted(delivery) == {"handled": 6, "failed": 1, "parked": 0, "discarded": 1}


def test_an_outage_and_a_batch_that_is_rolled_back_are_counted_as_failures(
    delivery: Delivery,
) -> None:
    loads("bad", "bad")
    delivery.handle_stored("app.Load")
    assert counted(delivery) == {"handled": 0, "failed": 2, "parked": 0, "discarded": 0}
    Notification.objects.all().delete()
    loads("good", "close")
    delivery.handle_stored("app.Load")
    assert counted(delivery) == {"handled": 0, "failed": 4, "parked": 0, "discarded": 0}


def test_a_stopping_worker_gives_back_what_it_has_not_read() -> None:
    asked = []

    def is_stopping() -> bool:
        asked.append(True)
        return len(asked) == 3

    loads(*["good"] * 6)
    delivery = Delivery([Load], using="default", is_stopping=is_stopping)
    assert delivery.handle_stored("app.Load")
    assert lists == [[1, 2, 3]]
    assert sorted(stored()) == [4, 5, 6]


def test_a_batch_that_its_worker_died_of_is_handled_one_by_one_and_charges_none() -> None:
    loads("good", "good", "good")
    with stranger() as other:
        other.execute("BEGIN")
        other.execute("DELETE FROM pgpubsub_sql_notification")
        other.execute("ROLLBACK")
    delivery = Delivery([Load], using="default")
    drain(delivery, Load)
    assert lists == [[1], [2], [3]]
    assert not stored()


def test_many_messages_sent_at_once_are_few_calls(delivery: Delivery) -> None:
    notify_many([Load(number=number) for number in range(1000)])
    drain(delivery, Load)
    assert len(lists) == 7
    assert numbers("load") == [*range(1000)]


@pytest.mark.parametrize("mood", ["die", "kill"])
def test_a_message_that_kills_its_worker_is_found_by_handling_each_alone(
    listen: Callable[..., Listen], mood: str
) -> None:
    """The death of the list charges none; that of the message alone charges it."""
    loads("good", mood, "good")
    listener = listen("--channels", "app.Load")
    eventually(lambda: Notification.objects.filter(attempts__gt=0).exists())
    eventually(lambda: sorted(numbers("load")) == [1, 3])
    eventually(lambda: "will be retried" in listener.log)
    (row,) = stored().values()
    assert (row.payload["number"], row.alone, row.attempts) == (2, True, 1)
    assert "Each will be handled in a transaction of its own" in listener.log


def test_a_worker_leaves_the_channel_alone_in_an_outage(listen: Callable[..., Listen]) -> None:
    """And other channels are handled meanwhile."""
    loads("bad", "bad")
    listener = listen("--channels", "app.Load", "app.Job").ready()
    eventually(lambda: listener.log.count("This seems to be an outage") >= 4)
    jobs("good")
    eventually(lambda: numbers("do_job") == [1])
    assert {row.attempts for row in Notification.objects.all()} == {0}
    Notification.objects.update(payload={"number": 1, "mood": "good"})
    eventually(lambda: numbers("load") == [1, 1])
    assert listener.stop() == 0


def test_a_drain_ends_in_an_outage(listen: Callable[..., Listen]) -> None:
    loads("bad", "bad")
    listener = listen("--channels", "app.Load", "--drain")
    assert listener.process.wait(60) == 1
    assert "This seems to be an outage" in listener.log
    assert "Drained: 0 handled" in listener.log
