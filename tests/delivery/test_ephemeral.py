"""Ephemeral messages."""

from __future__ import annotations

import datetime
import json
import logging
import random
from collections import deque
from contextvars import ContextVar
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.isolation import IDLE
from tests.app import listeners
from tests.ledger import calls, numbers, sql
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


def shout(delivery: Delivery, moods: list[str], *, together: bool) -> None:
    """Have a message of each mood handled."""
    messages = [f'{{"number": {number}, "mood": "{one}"}}' for number, one in enumerate(moods, 1)]
    if together:
        hear(delivery, "app.Shout", *messages)
    else:
        for message in messages:
            hear(delivery, "app.Shout", message)


def test_sweep_deletes_only_expired_payloads(delivery: Delivery) -> None:
    now = timezone.now()
    hour = datetime.timedelta(hours=1)
    LongPayload.objects.create(payload={}, expires_at=now - hour)
    kept = LongPayload.objects.create(payload={}, expires_at=now + hour)
    delivery.sweep()
    assert list(LongPayload.objects.all()) == [kept]


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "no JSON",
        "[]",
        "null",
        "7",
        "{}",
        '{"kwargs": 1}',
        '{"number": "x"}',
        "[" * 7000,
        '{"number":',
    ],
)
def test_an_unreadable_message_is_logged_with_its_channel(
    delivery: Delivery, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19."""
    hear(delivery, "app.Shout", payload)
    assert "app.Shout cannot be read, and was dropped" in caplog.text
    hear(delivery, "app.Shout", '{"number": 1}')
    assert numbers("hear") == [1]


@pytest.mark.parametrize("reference", ["-1", '"1"', "[]", "1e400", "9" * 30, "true", "1.5"])
def test_a_reference_to_a_missing_payload_is_dropped(
    delivery: Delivery, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P19."""
    hear(delivery, "app.Shout", f'{{"number": 1, "$ref": {reference}}}')
    assert "A message on channel app.Shout" in caplog.text
    assert not numbers("hear")


def test_a_message_from_another_schema_is_ignored(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    hear(delivery, "app.Shout", '{"number": 1, "$schema": "tenant"}')
    hear(delivery, "app.Shout", '{"number": 2, "$schema": "public"}')
    assert numbers("hear") == [2]
    assert not caplog.records


@pytest.mark.parametrize(
    "mood", ["bad", "broken-sql", "dangling", "close", "terminate", "exit", "retry after"]
)
@pytest.mark.parametrize("together", [False, True])
def test_an_ephemeral_failure_ends_its_message_only(
    delivery: Delivery, mood: str, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """P8, P12."""
    shout(delivery, ["good", mood, "good"], together=together)
    assert numbers("hear") == [1, 3]
    assert numbers("hear_only_number") == [1, 3]
    assert (
        "channel app.Shout failed; it will not be retried, as it is not stored (listener tests."
        in caplog.text
    )
    assert "Traceback" in caplog.text


def test_async_listeners_join_the_transaction(delivery: Delivery) -> None:
    hear(delivery, "app.Shout", '{"number": 1, "mood": "async"}')
    assert numbers("hear_async") == [1]


@pytest.mark.parametrize("mood", ["swallowed", "rollback", "never left", "commit raw and fail"])
@pytest.mark.parametrize("together", [False, True])
def test_an_ephemeral_message_must_keep_its_transaction_intact(
    delivery: Delivery, mood: str, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost without a word: neither its writes nor those of the next."""
    shout(delivery, [mood, "good"], together=together)
    assert 2 in numbers("hear")
    assert (
        "channel app.Shout failed; it will not be retried, as it is not stored (listener tests."
        in caplog.text
    )


def test_a_transaction_begins_only_for_messages_that_query(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ephemeral message that does not costs the server nothing."""
    begun: list[bool] = []

    def look() -> None:
        begun.append(connection.connection.info.transaction_status != IDLE)

    monkeypatch.setattr(listeners, "note", lambda *_, **__: look())
    monkeypatch.setitem(listeners.MOODS, "good", lambda: (sql("SELECT 1"), look()))
    hear(delivery, "app.Shout", '{"number": 1}')
    assert begun == [False, True, True]


def test_an_ephemeral_message_has_a_transaction_of_its_own(delivery: Delivery) -> None:
    """So a durable block is at home in it."""
    hear(delivery, "app.Shout", '{"number": 1, "mood": "durable"}')
    assert numbers("hear") == [1]
    assert len(calls("durable")) == 1


def test_an_ephemeral_message_may_be_discarded(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hear(delivery, "app.Shout", '{"number": 1, "mood": "discard"}')
    assert not numbers("hear")
    assert "was discarded by its listener: it came too late" in caplog.text
    assert "Traceback" not in caplog.text


BEGUN = "SELECT pg_current_xact_id(), now()"


def test_each_message_that_queries_has_its_own_transaction(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if others that do not query are handled with it."""
    seen: list[Any] = []
    monkeypatch.setitem(listeners.MOODS, "query", lambda: seen.append(sql(BEGUN)))
    monkeypatch.setattr(listeners, "note", lambda *_, **__: None)
    shout(delivery, ["good", "query", "query", "good", "query"], together=True)
    assert len({str(one) for one in seen}) == 3


def test_messages_that_do_not_query_share_a_block_that_begins_nothing(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each has a context of its own (F52), and its own place in the order.

    Django logs the block, of which nothing is sent.
    """
    heard: list[int] = []
    variable: ContextVar[int] = ContextVar("variable", default=0)

    def note(listener: str, *, number: int, **_: Any) -> None:
        heard.append(number)
        assert variable.get() in (0, number)
        variable.set(number)

    monkeypatch.setattr(listeners, "note", note)
    delivery.session.prepare()
    with CaptureQueriesContext(connection) as queries:
        shout(delivery, ["good"] * 100, together=True)
    assert [one["sql"] for one in queries] == ["BEGIN", "COMMIT"]
    assert sorted(set(heard)) == list(range(1, 101))
    assert heard == sorted(heard)


def test_a_callback_of_a_message_that_did_not_query_runs_before_the_next_message(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(listeners, "note", lambda *_, **__: None)
    monkeypatch.setitem(
        listeners.MOODS, "later", lambda: transaction.on_commit(lambda: said.append("callback"))
    )
    monkeypatch.setitem(listeners.MOODS, "now", lambda: said.append("message"))
    shout(delivery, ["later", "now"], together=True)
    assert said.index("callback") < said.index("message")


def test_a_turn_ends_in_time_and_leaves_the_rest(delivery: Delivery) -> None:
    """P27: but it handles one message, so that there is progress."""
    waiting = deque(f'{{"number": {number}}}' for number in (1, 2, 3))
    delivery.handle_ephemeral("app.Shout", waiting, 0.0)
    assert numbers("hear") == [1]
    assert len(waiting) == 2


def test_long_payloads_of_messages_that_wait_are_read_by_one_query(delivery: Delivery) -> None:
    """Those that never existed hinder nobody; one that was replayed is read again."""
    later = timezone.now() + datetime.timedelta(hours=1)
    made = [
        LongPayload.objects.create(payload={"number": number}, expires_at=later).pk
        for number in range(1, 6)
    ]
    references = [*made, 10**15, made[0], "no id"]
    with CaptureQueriesContext(connection) as queries:
        hear(delivery, "app.Shout", *[json.dumps({"$ref": one}) for one in references])
    read = [one for one in queries if "pgpubsub_sql_longpayload" in one["sql"]]
    assert len(read) == 2
    assert numbers("hear") == [1, 2, 3, 4, 5, 1]


def test_long_payloads_are_read_up_to_a_megabyte(delivery: Delivery) -> None:
    """Compression hides nothing here: the texts are random."""
    later = timezone.now() + datetime.timedelta(hours=1)
    made = [
        LongPayload.objects.create(
            payload={"number": number, "text": random.randbytes(400_000).hex()}, expires_at=later
        ).pk
        for number in range(1, 6)
    ]
    with CaptureQueriesContext(connection) as queries:
        hear(delivery, "app.Shout", *[json.dumps({"$ref": one}) for one in made])
    read = [one for one in queries if "pgpubsub_sql_longpayload" in one["sql"]]
    assert 1 < len(read) < 5
    assert numbers("hear") == [1, 2, 3, 4, 5]
