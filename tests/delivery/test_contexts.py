"""What a message has set in Python is its own: each has a context, as a request has a thread."""

from __future__ import annotations

import decimal
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.local import Local
from asgiref.sync import async_to_sync
from django.core.cache import caches
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from pgpubsub_sql import signals
from pgpubsub_sql.worker.attempts import new_context
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.listeners import called
from tests.delivery.channels import LoneJob
from tests.delivery.sending import drain, jobs
from tests.ledger import calls, numbers
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)

user: ContextVar[str] = ContextVar("user", default="nobody")
local = Local()

STATE: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "a ContextVar": (user.get, lambda: user.set("somebody")),
    "a Local": (lambda: getattr(local, "user", None), lambda: setattr(local, "user", "somebody")),
    "the language": (translation.get_language, lambda: translation.activate("de")),
    "the time zone": (
        timezone.get_current_timezone_name,
        lambda: timezone.activate("Asia/Tokyo"),
    ),
    "the urlconf": (get_urlconf, lambda: set_urlconf("tests.nowhere")),
    "the script prefix": (get_script_prefix, lambda: set_script_prefix("/somewhere/")),
    "the decimal context": (
        lambda: decimal.getcontext().prec,
        lambda: setattr(decimal.getcontext(), "prec", 7),
    ),
}
"""What a listener may set, and how to look at it."""


async def in_a_loop(change: Callable[[], object]) -> None:
    change()


@pytest.fixture(params=["sync", "async"])
def how(request: pytest.FixtureRequest) -> Callable[[Callable[[], object]], object]:
    """How a listener calls what changes something."""
    return (lambda change: change()) if request.param == "sync" else async_to_sync(in_a_loop)


@pytest.mark.parametrize("what", STATE)
def test_a_message_does_not_see_the_context_variables_of_another(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    how: Callable[[Callable[[], object]], object],
) -> None:
    """F52: whatever it sets, whether it fails, on each kind of channel."""
    look, change = STATE[what]
    seen: list[object] = []

    def leave() -> None:
        how(change)
        seen.append(look())

    monkeypatch.setitem(listeners.MOODS, "leave", leave)
    monkeypatch.setitem(listeners.MOODS, "fail", lambda: (leave(), listeners.fail("after it")))
    monkeypatch.setitem(listeners.MOODS, "look", lambda: seen.append(look()))
    before = look()
    jobs("leave", "look", "fail", "look")
    drain(delivery)
    moods = ["leave", "look", "fail", "look"]
    hear(delivery, "app.Shout", *[f'{{"number": 1, "mood": "{mood}"}}' for mood in moods])
    changed = seen[0]
    assert changed != before
    assert seen == [changed, before] * 4
    assert look() == before


@pytest.mark.parametrize("channel", ["app.Job", "app.Shout"])
def test_receivers_callbacks_and_log_records_share_the_context_of_their_message(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    channel: str,
) -> None:
    """F52: receivers beforehand and afterwards, its callbacks, and what is logged of it."""
    seen: list[tuple[str, str]] = []

    def note(name: str, **named: Any) -> None:
        seen.append((name, user.get()))

    def received(**named: Any) -> None:
        note("received")
        user.set("of the receiver")

    class Filter:
        def filter(self, record: Any) -> bool:
            record.user = user.get()
            return True

    def look() -> None:
        note("listener")
        user.set("of the listener")
        transaction.on_commit(lambda: (note("callback"), user.set("of the callback")))  # type: ignore[func-returns-value]

    succeeded, failed = partial(note, "succeeded"), partial(note, "failed")
    monkeypatch.setitem(listeners.MOODS, "look", look)
    monkeypatch.setitem(listeners.MOODS, "fail", lambda: (look(), listeners.fail("after it")))
    monkeypatch.setattr(caplog.handler, "filters", [Filter()])
    signals.message_received.connect(received)
    signals.message_succeeded.connect(succeeded)
    signals.message_failed.connect(failed)
    try:
        if channel == "app.Job":
            jobs("look", "fail")
            drain(delivery)
        else:
            for mood in ["look", "fail"]:
                hear(delivery, channel, f'{{"number": 1, "mood": "{mood}"}}')
    finally:
        signals.message_received.disconnect(received)
        signals.message_succeeded.disconnect(succeeded)
        signals.message_failed.disconnect(failed)
    assert sorted(seen) == [
        ("callback", "of the listener"),
        ("failed", "of the listener"),
        *[("listener", "of the receiver")] * 2,
        *[("received", "nobody")] * 2,
        ("succeeded", "of the callback"),
    ]
    assert {record.user for record in caplog.records} == {"of the listener"}  # type: ignore[attr-defined]


def test_messages_do_not_see_context_variables_set_at_start(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F52: such as by what is logged while the worker starts."""
    seen: list[str] = []
    monkeypatch.setitem(listeners.MOODS, "look", lambda: seen.append(user.get()))
    token = user.set("the worker")
    try:
        jobs("look")
        drain(delivery)
        assert user.get() == "the worker"
    finally:
        user.reset(token)
    assert seen == ["nobody"]


def test_the_tenant_of_a_worker_is_that_of_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """F40: django-pgschemas keeps it in a ContextVar, so that listeners worked for nobody."""
    active = ContextVar("active_schema", default="public")
    module = SimpleNamespace(active=active)
    monkeypatch.setitem(sys.modules, "django_pgschemas.schema", module)  # type: ignore[arg-type]
    active.set("acme")
    first = new_context()
    first.run(active.set, "globex")
    assert (first.run(active.get), new_context().run(active.get)) == ("globex", "acme")


def test_messages_share_cache_connections(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F52: Django keeps them in the context, and their connections with them."""
    seen: set[int] = set()
    kept: list[object] = []

    def look() -> None:
        kept.append(caches["default"])
        seen.add(id(caches["default"]))

    monkeypatch.setitem(listeners.MOODS, "look", look)
    jobs("look", "look", "look")
    drain(delivery)
    assert len(kept) == 3
    assert len(seen) == 1


def test_each_thread_has_its_own_caches() -> None:
    """As they are not safe to share."""
    made: list[object] = []

    def look() -> None:
        made.extend(new_context().run(lambda: caches["default"]) for _ in range(2))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert made[0] is made[1]
    assert made[0] is not new_context().run(lambda: caches["default"])


def test_queries_in_the_context_of_a_message_join_its_transaction(delivery: Delivery) -> None:
    """F52: connections belong to the thread, not to the context."""
    jobs("good", "bad", "good", channel=LoneJob)
    drain(delivery, LoneJob)
    assert numbers("do_lone_job") == [1, 3]
    hear(delivery, "app.Shout", '{"number": 1, "mood": "async"}')
    assert len(calls("hear_async")) == 1


@pytest.fixture
def debug(settings: Any) -> Iterator[None]:
    settings.DEBUG = True
    yield
    connection.queries_log.clear()


@pytest.mark.usefixtures("debug")
def test_logged_queries_are_forgotten(delivery: Delivery) -> None:
    """F51: with DEBUG, Django remembers the last 9,000 until a request ends."""
    for _ in range(3):
        jobs(*["good"] * 5)
        drain(delivery)
        assert len(connection.queries_log) < 20
        for number in range(3):
            hear(delivery, "app.Shout", f'{{"number": {number}}}')
            assert len(connection.queries_log) < 20
        for _ in range(10):
            delivery.handle_stored("app.Job")
        assert len(connection.queries_log) < 20


def test_assert_num_queries_counts_the_queries_of_a_drain(delivery: Delivery) -> None:
    """F51: assertNumQueries() counts those of a drain, too."""
    drain(delivery)
    jobs("good")
    with CaptureQueriesContext(connection) as queries:
        drain(delivery)
    assert any("app_entry" in query["sql"] for query in queries.captured_queries)
    assert called == [1]
