"""A listener that takes longer than its channel's timeout."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from django.db import connection, connections, transaction

from pgpubsub_sql.errors import ListenerTimeout
from pgpubsub_sql.worker import timeouts
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.timeouts import call_with_timeout
from tests.app import listeners
from tests.app.listeners import called, execute
from tests.delivery.channels import Hasty, HastyShout
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import calls, numbers, sql, stored
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)

FOREVER = 60.0
"""Seconds; nobody waits for their end."""


def spin() -> None:
    while True:
        pass


def handle_whatever_comes() -> None:
    """As a loop does that is not to end of one failure."""
    for _ in range(3):
        with contextlib.suppress(Exception):
            time.sleep(FOREVER)


def query_again() -> None:
    """The first query is cancelled, and so is whatever comes after it."""
    while True:
        with contextlib.suppress(Exception):
            execute("SELECT pg_sleep(60)")


def catch_everything() -> None:
    """Not even that saves it, for more than a second."""
    with contextlib.suppress(BaseException):
        time.sleep(FOREVER)
    time.sleep(FOREVER)


def clean_up() -> None:
    try:
        time.sleep(FOREVER)
    finally:
        called.append(-1)


ENDLESS: dict[str, Callable[[], object]] = {
    "spin": spin,
    "sleep": lambda: time.sleep(FOREVER),
    "wait": lambda: threading.Event().wait(FOREVER),
    "query": lambda: execute("SELECT pg_sleep(60)"),
    "handle": handle_whatever_comes,
    "query again": query_again,
    "catch everything": catch_everything,
    "clean up": clean_up,
}


@pytest.fixture(autouse=True)
def moods(monkeypatch: pytest.MonkeyPatch) -> None:
    for mood, behaviour in ENDLESS.items():
        monkeypatch.setitem(listeners.MOODS, mood, behaviour)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    yield
    handler = signal.getsignal(signal.SIGALRM)
    assert "pgpubsub_sql" not in str(getattr(handler, "__module__", ""))
    assert not [one for one in threading.enumerate() if "pgpubsub_timeout" in one.name]


# Python forgets what is raised while it finalizes an object; the next try is a second later.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mood", [*ENDLESS, "async sleep", "async query"])
def test_a_timeout_interrupts_the_listener_and_counts_as_a_failure(
    delivery: Delivery, mood: str
) -> None:
    """In Python, in a system call, in the server; its neighbours are handled, once."""
    jobs("good", mood, "good", channel=Hasty)
    drain(delivery, Hasty)
    row = stored()[2]
    assert row.attempts == 1
    sql("DELETE FROM pgpubsub_sql_notification WHERE payload->'number' = '2'")
    while stored():  # where much else runs, a good one may need more than its time, too
        hasten()
        drain(delivery, Hasty)
    assert sorted(numbers("be_quick")) == [1, 3]
    assert sorted(data["number"] for data in calls("in_a_loop")) == [1, 3]
    assert "ListenerTimeout: The listener took longer than 1 s" in row.last_error
    assert (mood == "clean up") == (-1 in called)


def test_a_listeners_own_timeout_error_is_an_ordinary_failure(delivery: Delivery) -> None:
    """It is an error as any other."""
    jobs("async error", channel=Hasty)
    drain(delivery, Hasty)
    (row,) = stored().values()
    assert "of the listener's own" in row.last_error
    assert "ListenerTimeout" not in row.last_error


@pytest.mark.parametrize("mood", ["sleep", "query"])
def test_a_timeout_interrupts_an_ephemeral_message(
    delivery: Delivery, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number, one in enumerate([mood, "good"], 1):
        hear(delivery, "tests.HastyShout", f'{{"number": {number}, "mood": "{one}"}}')
    assert numbers("be_quick") == [2]
    assert "took longer than 1 s" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mood", ["sleep", "query", "clean up"])
@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("channel", [Hasty, HastyShout])
def test_a_timeout_interrupts_a_callback(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    channel: type[Hasty],
    mood: str,
    robust: bool,
) -> None:
    """F49: it is of a message that is handled, so the log has what became of it, and what to do."""
    monkeypatch.setitem(
        listeners.MOODS, "bad", lambda: transaction.on_commit(ENDLESS[mood], robust=robust)
    )
    name = channel.postgres_name()
    if channel is Hasty:
        jobs("bad", "good", channel=Hasty)
        drain(delivery, Hasty)
        assert not stored()
    else:
        for number, one in enumerate(["bad", "good"], 1):
            hear(delivery, name, f'{{"number": {number}, "mood": "{one}"}}')
    assert numbers("be_quick") == [1, 2]
    assert (
        f"A callback given to transaction.on_commit() by a listener of channel {name} took longer "
        "than the channel's timeout (1.0 s) and was interrupted"
    ) in caplog.text


def test_another_sigalrm_handler_still_works() -> None:
    """A listener may use SIGALRM for itself, or whoever runs the worker."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        call_with_timeout(30, connection, lambda: signal.raise_signal(signal.SIGALRM))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rung == [signal.SIGALRM]


@pytest.mark.parametrize("fails", [False, True])
def test_a_timeout_at_any_line_leaves_no_timer_and_no_handler(fails: bool) -> None:
    """F30: at each line that starts or stops the timer, a timeout may occur."""
    before = signal.getsignal(signal.SIGALRM)
    with alarm_at_line(None) as lines:
        call_with_timeout(30, connection, lambda: None)
    assert len(lines) > 10
    for number in range(len(lines)):
        called.clear()
        with contextlib.suppress(ListenerTimeout, ZeroDivisionError), alarm_at_line(number):
            call_with_timeout(30, connection, lambda: called.append(1 // (not fails)))
        assert not [one for one in threading.enumerate() if "pgpubsub_timeout" in one.name], lines[
            number
        ]
        assert signal.getsignal(signal.SIGALRM) is before, lines[number]


@contextlib.contextmanager
def alarm_at_line(wanted: int | None) -> Iterator[list[tuple[str, int]]]:
    """Let the time be over at the line of this number of those that are not the listener's."""
    lines: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != timeouts.__file__ or "_raise" in frame.f_code.co_name:
            return None
        if event == "line":
            handler = signal.getsignal(signal.SIGALRM)
            timer = getattr(handler, "__self__", None)
            if wanted == len(lines) and timer is not None:
                timer.has_timed_out = True
                signal.raise_signal(signal.SIGALRM)
            lines.append((frame.f_code.co_name, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def test_outside_the_main_thread_only_queries_are_interrupted() -> None:
    """Signals are the main thread's."""
    outcome: list[BaseException] = []

    def limited() -> None:
        try:
            call_with_timeout(0.1, connections["default"], lambda: execute("SELECT pg_sleep(60)"))
        except ListenerTimeout as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=limited)
    thread.start()
    thread.join(30)
    assert len(outcome) == 1
