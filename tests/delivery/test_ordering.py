"""Messages of an equal key: one at a time, in order, retries included."""

from __future__ import annotations

import datetime
import json
import random
import threading
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction

from pgpubsub_sql import Notification, Retry, notify, notify_many
from pgpubsub_sql.filters import ClaimFilter
from pgpubsub_sql.models import State
from pgpubsub_sql.sql import SQL, query
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import claims, ordered_claims
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.history import History
from tests.app.channels import Job, Step
from tests.app.listeners import called
from tests.app.models import Entry
from tests.conftest import Listen, eventually
from tests.delivery.channels import Parcel
from tests.delivery.plans import explained
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import calls, sql, stranger

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no key has its turn when there are no runs, and what failed waits to be hastened,
    however slow the test is."""
    monkeypatch.setattr(claims, "RESTART_SECONDS", 60.0)
    monkeypatch.setattr(Step, "retry", Retry(max_attempts=3, delay=500))


def steps(*moods: str, accounts: str = "a") -> None:
    """Store for each account a step per mood, numbered from 1, one account after another."""
    with transaction.atomic():
        for account in accounts:
            for number, mood in enumerate(moods, 1):
                notify(Step(account, number, mood))


def done() -> dict[str, list[int]]:
    """Return the numbers that each account has seen, in order."""
    seen: dict[str, list[int]] = {}
    for data in calls("step"):
        seen.setdefault(data["account"], []).append(data["number"])
    return seen


@contextmanager
def busy(key: str) -> Iterator[Any]:
    """Have another worker hold the lock of this key."""
    with stranger() as other:
        other.execute("BEGIN")
        parameters = {**Lane("app.Step")._asdict(), "after": "", "limit": 1000, "steps": 1000}
        other.execute(query("lock_keys"), parameters)
        locked = [one for one, is_locked, _ in other.fetchall() if is_locked]
        assert locked == [key]
        yield other
        other.execute("ROLLBACK")


def test_a_key_is_stored_as_json_however_it_is_sent() -> None:
    """In PostgreSQL's spelling, as triggers have it; null is no key."""
    notify(Step('ä"', 1))
    notify(Step, account="b", number=1)
    notify_many([Step("c", 1), Step(None, 1)])
    keys = list(Notification.objects.order_by("id").values_list("key", flat=True))
    assert keys == ['["ä\\""]', '["b"]', '["c"]', None]
    sql("SELECT 1 / (jsonb_build_array('ä\"'::text)::text = %s)::integer", keys[0])


def test_equal_values_are_one_key() -> None:
    """F27: a UUID as an object and in capitals, one moment in two time zones."""
    one, noon = uuid.uuid4(), datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
    tokyo = noon.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo"))
    notify(Parcel(one, noon))
    notify(Parcel, parcel=str(one).upper(), sent=tokyo)
    notify_many([Parcel(one, tokyo), Parcel(str(one).upper(), noon.isoformat())])  # type: ignore[arg-type]
    keys = set(Notification.objects.values_list("key", flat=True))
    assert keys == {f'["{one}", "2026-07-01T12:00:00Z"]'}


def test_a_key_too_long_for_an_index_is_stored_as_a_digest() -> None:
    """The same for equal values, another for others; random, for PostgreSQL compresses the rest."""
    long = random.Random(1).randbytes(10_000).hex()
    notify(Step(long, 1))
    notify_many([Step(long, 2), Step(long + "!", 3)])
    first, second, other = Notification.objects.order_by("id").values_list("key", flat=True)
    assert first == second
    assert other not in (first, None)
    assert len(first) == len("sha256:") + 64


def test_a_failure_blocks_only_its_own_key(delivery: Delivery) -> None:
    steps("good", "bad at first", "good", "good", accounts="a")
    steps("good", "good", accounts="b")
    drain(delivery, Step)
    assert done() == {"a": [1], "b": [1, 2]}
    assert Notification.objects.filter(attempts=0).count() == 2
    hasten()
    drain(delivery, Step)
    assert done() == {"a": [1, 2, 3, 4], "b": [1, 2]}


@pytest.mark.parametrize("mood", ["close", "roll back raw"])
def test_a_message_that_rolls_back_its_batch_blocks_only_its_own_key(
    delivery: Delivery, mood: str
) -> None:
    steps("good", mood, "good", accounts="ab")
    for _ in range(2):
        drain(delivery, Step)
        assert done() == {"a": [1], "b": [1]}
        hasten()
    drain(delivery, Step)
    assert Notification.objects.parked().count() == 2
    assert done() == {"a": [1, 3], "b": [1, 3]}


def test_a_postponed_message_blocks_its_key(delivery: Delivery) -> None:
    steps("good", "deadlock", "good", accounts="a")
    for _ in range(2):
        drain(delivery, Step)
        assert done() == {"a": [1]}
        hasten()


def test_parking_unblocks_the_key(delivery: Delivery) -> None:
    steps("bad", "good")
    for _ in range(2):
        drain(delivery, Step)
        assert done() == {}
        hasten()
    drain(delivery, Step)
    assert done() == {"a": [2]}
    assert Notification.objects.parked().count() == 1


def test_discarding_and_expiring_unblock_the_key(delivery: Delivery) -> None:
    steps("discard", "good", "good", "good")
    sql(
        "UPDATE pgpubsub_sql_notification SET expires_at = clock_timestamp()"
        " WHERE payload->'number' = '3'"
    )
    drain(delivery, Step)
    assert done() == {"a": [2, 4]}


def test_a_delayed_message_blocks_later_ones_with_its_key(delivery: Delivery) -> None:
    """The order is that of ids."""
    notify(Step("a", 1), delay=datetime.timedelta(hours=1))
    notify(Step("a", 2))
    notify(Step("b", 3))
    drain(delivery, Step)
    assert done() == {"b": [3]}
    hasten()
    drain(delivery, Step)
    assert done() == {"b": [3], "a": [1, 2]}


def test_different_keys_are_handled_in_parallel(delivery: Delivery) -> None:
    """A key that another worker has locked is skipped, however many messages it has."""
    steps(*["good"] * 30, accounts="a")
    with busy('["a"]'):
        steps("good", accounts="bc")
        drain(delivery, Step)
        assert done() == {"b": [1], "c": [1]}
    drain(delivery, Step)
    assert done()["a"] == list(range(1, 31))


def test_a_message_put_back_while_its_key_is_locked_comes_first(delivery: Delivery) -> None:
    """Whoever gets the lock next sees it: taking is a statement of its own."""
    steps("good", "good")
    execute, late = delivery.session.execute, iter([True])

    def between(name: str, *arguments: Any, **options: Any) -> Any:
        found = execute(name, *arguments, **options)
        if name == "lock_keys" and next(late, False):
            with stranger() as other:  # as the worker does that had locked it until now
                other.execute("BEGIN")
                other.execute(
                    "DELETE FROM pgpubsub_sql_notification WHERE payload->'number' = '1'"
                    " RETURNING id, channel, payload::text, key"
                )
                (row,) = other.fetchall()
                other.execute(
                    "INSERT INTO pgpubsub_sql_notification (id, channel, payload, key, attempts)"
                    " VALUES (%s, %s, %s, %s, 1)",
                    row,
                )
                other.execute("COMMIT")
        return found

    delivery.session.execute = between  # type: ignore[method-assign]
    drain(delivery, Step)
    assert done() == {"a": [1, 2]}
    assert [data["attempts"] for data in calls("step")] == [1, 0]


def test_a_row_locked_elsewhere_ends_the_claim_of_its_key(delivery: Delivery) -> None:
    """Somebody replays or discards it by hand at this moment."""
    steps("good", "good", "good")
    with stranger() as other:
        other.execute("BEGIN")
        other.execute(
            "SELECT FROM pgpubsub_sql_notification WHERE payload->'number' = '2' FOR UPDATE"
        )
        drain(delivery, Step)
        assert done() == {"a": [1]}
        other.execute("ROLLBACK")
    drain(delivery, Step)
    assert done() == {"a": [1, 2, 3]}


@contextmanager
def postponed_between_snapshot_and_lock(number: int) -> Iterator[SQL]:
    """Have somebody postpone a row while a statement is under way whose filter this is."""
    with stranger() as door, stranger() as other:
        door.execute("SELECT pg_advisory_lock(78)")
        other.execute("BEGIN")
        other.execute(
            "UPDATE pgpubsub_sql_notification SET available_at = available_at + interval '1 h'"
            " WHERE payload->'number' = %s",
            [str(number)],
        )

        def open_the_door() -> None:
            with stranger() as watcher:
                eventually(lambda: waits_at_the_door(watcher))
            other.execute("COMMIT")
            door.execute("SELECT pg_advisory_unlock(78)")

        opener = threading.Thread(target=open_the_door)
        opener.start()
        sql("SET LOCAL enable_seqscan = off")  # as with a table of some size
        yield SQL("pg_advisory_xact_lock_shared(78) IS NOT NULL")
        opener.join()


def waits_at_the_door(cursor: Any) -> bool:
    cursor.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool(cursor.fetchall())


@pytest.mark.parametrize(("number", "taken"), [(1, []), (2, [1]), (3, [1, 2])])
def test_a_row_that_changes_during_the_claim_ends_the_claim_of_its_key(
    delivery: Delivery, number: int, taken: list[int]
) -> None:
    """F26: what PostgreSQL locks then is another version, on older minors without a word."""
    steps("good", "good", "good")
    with delivery.session.isolation(), postponed_between_snapshot_and_lock(number) as condition:
        found = ordered_claims.OrderedClaims(
            Lane("app.Step"),
            delivery.session,
            ClaimFilter(text=condition),
            History(Step, delivery.session),
        )
        claim = found._take_keyed(10)
    assert [json.loads(one.payload)["number"] for one in claim.claimed] == taken
    assert not claim.abandoned


@pytest.mark.parametrize(("number", "taken"), [(1, [2, 3]), (3, [1, 2])])
def test_a_row_that_changes_during_an_unordered_claim_is_left_out(
    delivery: Delivery, number: int, taken: list[int]
) -> None:
    """F26: of what has no order."""
    jobs("good", "good", "good")
    with delivery.session.isolation(), postponed_between_snapshot_and_lock(number) as condition:
        found = claims.UnorderedClaims(
            Lane("app.Job"),
            delivery.session,
            ClaimFilter(text=condition),
            History(Job, delivery.session),
        )
        claim = found.take(10, thorough=True)
    assert [json.loads(one.payload)["number"] for one in claim.claimed] == taken
    assert not claim.abandoned


def test_messages_without_a_key_do_not_wait_for_each_other(delivery: Delivery) -> None:
    """SQL knows no keys, and a channel may have had none when it was stored."""
    for number in (1, 2):
        sql(
            "SELECT pgpubsub_notify('app.Step', %s)", json.dumps({"account": "a", "number": number})
        )
    steps("bad at first", accounts="b")
    steps("good", accounts="c")
    drain(delivery, Step)
    assert done() == {"c": [1], "a": [1, 2]}


def test_messages_without_a_key_have_their_turn_among_keyed_ones(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RESTART_SECONDS", 0.0)
    steps(*["good"] * 50)
    sql('SELECT pgpubsub_notify(\'app.Step\', \'{"account": "x", "number": 7}\')')
    delivery.handle_stored("app.Step")
    assert done() == {"x": [7]}


def test_every_key_has_its_turn(delivery: Delivery) -> None:
    """The walk goes on where it has ended, so a flood of one key does not starve another."""
    steps(*["good"] * 100, accounts="abc")
    delivery._states[Lane("app.Step")].sizing._size = 2
    delivery._states[Lane("app.Step")].sizing._largest = 2
    for _ in range(3):
        delivery.handle_stored("app.Step")
    assert set(done()) == {"a", "b", "c"}


def test_batches_of_many_keys_grow_too(delivery: Delivery) -> None:
    """No more than 50 keys at a time, and of each the more the quicker it goes."""
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, payload, key)"
        ' SELECT \'app.Step\', \'{"account": "a", "number": 1, "mood": "quiet"}\', key::text'
        " FROM generate_series(1, 60) AS key, generate_series(1, 20)"
    )
    sizes = []
    while delivery.handle_stored("app.Step"):
        sizes.append(len(called) - sum(sizes))
    assert max(sizes) >= 300
    assert sum(sizes) == 1200


def test_many_waiting_keys_do_not_hide_a_ready_one(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered_claims, "STEPS", 3)
    steps("good", accounts="abcdefgh")
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp() + interval '1 h'"
        " WHERE key <> '[\"g\"]'"
    )
    drain(delivery, Step)
    assert done() == {"g": [1]}


def test_a_message_to_be_handled_alone_is_found_among_many_keys(delivery: Delivery) -> None:
    steps("good", "good", accounts="abcdefgh")
    sql("UPDATE pgpubsub_sql_notification SET alone = true WHERE key IN ('[\"f\"]', '[\"g\"]')")
    delivery.handle_stored("app.Step")  # what has no key
    sizes = []
    while delivery.handle_stored("app.Step"):
        sizes.append(len(called) - sum(sizes))
    assert sizes[:4] == [10, 1, 1, 2]
    drain(delivery, Step)
    assert done() == {account: [1, 2] for account in "abcdefgh"}


def test_locking_keys_takes_one_index_probe_per_key(delivery: Delivery) -> None:
    """P6: 100,000 messages of one key, and as many parked ones, are passed over in one step."""
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, payload, key, available_at)"
        " SELECT 'app.Step', '{}', '[\"a\"]', CASE WHEN number > 100000 THEN clock_timestamp() END"
        " FROM generate_series(1, 200000) AS number"
    )
    steps("good", accounts="b")
    sql("ANALYZE pgpubsub_sql_notification")
    parameters = {**Lane("app.Step")._asdict(), "after": "", "limit": 50, "steps": 1000}
    nodes = explained(query("lock_keys"), parameters)
    scans = [one for one in nodes if one.get("Index Name") == "pgpubsub_sql_key"]
    assert sum(one["Actual Loops"] for one in scans) == 3  # the two keys, and none after them
    assert all(one["Actual Rows"] <= 1 for one in scans)  # a mean, before PostgreSQL 18 rounded
    assert "Seq Scan" not in {one["Node Type"] for one in nodes}


def test_keys_keep_their_order_across_workers_that_fail_and_die(
    listen: Callable[..., Listen],
) -> None:
    """P16: each key in the order of ids, retries included, whoever handles it."""
    listen("--channels", "app.Step", "--processes", "3").ready(3)
    for number in range(1, 31):
        notify_many(
            Step(account, number, "bad at first" if number % 7 == 0 else "good")
            for account in "abcdef"
        )
    notify(Step("g", 1, "kill"))
    notify(Step("g", 2))
    due = Notification.objects.in_state(State.READY, State.IN_FLIGHT)
    eventually(lambda: not due.exists() and len(calls("step")) >= 181)
    eventually(lambda: Notification.objects.parked().count() == 1)
    order = list(range(1, 31))
    assert done() == dict.fromkeys("abcdef", order) | {"g": [2]}
    assert Entry.objects.filter(listener="step").values("pid").distinct().count() > 1
