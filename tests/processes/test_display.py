"""What takes long is shown: which listener, which message, where, and for how long."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from pgpubsub_sql import notify
from pgpubsub_sql.inspection import long_calls
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.models import InFlight, Notification
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import display
from pgpubsub_sql.worker.connections import DISPLAY
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.display import Display
from pgpubsub_sql.worker.pulse import Pulse, Pulses
from tests.app.channels import Job, Shout
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import backends, listeners_wait, numbers, sql, waiting
from tests.management.support import run, run_json
from tests.processes.support import EVERY_WAY, workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]
Logs = pytest.LogCaptureFixture

DO_JOB = "tests.app.listeners.do_job"


class Shown:
    """A display of what one worker does, which is this process and takes no step by itself."""

    def __init__(self) -> None:
        self.pulses = Pulses(1)
        self.display = Display(self.pulses, 1, ("app.Job", "app.Shout"), using="default")
        self.pulse = Pulse.shared(self.pulses.fd, 0)

    def handle(self, message: int = 7) -> None:
        """Begin to handle a message of the first channel."""
        self.pulse.handling(0, 60.0)
        self.pulse.message[0] = message
        self.pulse.listener[0] = self.display._listeners.index(DO_JOB)

    def look(self) -> list[Any]:
        self.display._look()
        return long_calls("default")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    monkeypatch.setattr(display, "LONG_SECONDS", 0.0)
    shown = Shown()
    yield shown
    shown.display._hang_up()
    shown.pulses.close()


def test_what_takes_long_is_shown_until_it_is_over(shown: Shown) -> None:
    shown.handle(7)
    (found,) = shown.look()
    assert found.seconds < 30
    assert found._replace(seconds=0.0) == (
        *("app.Job", 7, DO_JOB, 0.0),
        *(os.getpid(), socket.gethostname()),
    )
    (before,) = InFlight.objects.all()
    assert shown.look() == [found._replace(seconds=pytest.approx(found.seconds, abs=30))]
    assert InFlight.objects.get() == before  # it is written once
    shown.handle(8)
    assert [one.message for one in shown.look()] == [8]
    shown.pulse.working()
    assert not shown.look()
    assert not InFlight.objects.exists()
    eventually(lambda: not backends(DISPLAY))  # it connects for as long as it is needed


def test_what_does_not_take_long_is_not_shown(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LONG_SECONDS", 60.0)
    shown.handle()
    assert not shown.look()
    assert not backends(DISPLAY)


def test_a_message_that_is_not_stored_has_no_id(shown: Shown) -> None:
    shown.pulse.handling(1, 60.0)
    (found,) = shown.look()
    assert (found.channel, found.message, found.listener) == ("app.Shout", None, "")


def test_a_listener_that_only_the_worker_knows_has_no_name(shown: Shown) -> None:
    shown.handle()
    shown.pulse.listener[0] = 10_000
    assert [one.listener for one in shown.look()] == [""]


def test_what_a_dead_supervisor_has_left_is_not_shown_and_swept(shown: Shown) -> None:
    shown.handle()
    shown.look()
    (pid,) = backends(DISPLAY)
    sql("SELECT pg_terminate_backend(%s)", pid)
    eventually(lambda: not backends(DISPLAY))
    assert not long_calls("default")
    assert InFlight.objects.count() == 1
    another = Shown()
    another.handle(9)
    assert [one.message for one in another.look()] == [9]
    assert InFlight.objects.count() == 1
    another.display._hang_up()
    another.pulses.close()


def test_it_is_shown_again_after_the_connection_was_lost(shown: Shown) -> None:
    shown.handle()
    shown.look()
    sql("SELECT pg_terminate_backend(%s)", backends(DISPLAY)[0])
    eventually(shown.look)


def test_without_the_table_nothing_breaks(shown: Shown, caplog: Logs) -> None:
    sql("ALTER TABLE pgpubsub_sql_inflight RENAME TO gone")
    try:
        shown.handle()
        for _ in range(2):
            shown.display._rests_until = 0.0
            assert not shown.look()
        assert len([one for one in caplog.messages if "cannot be shown: relation" in one]) == 1
        run("status")
    finally:
        sql("ALTER TABLE gone RENAME TO pgpubsub_sql_inflight")
    eventually(shown.look)


def test_without_the_privilege_nothing_breaks(shown: Shown, caplog: Logs) -> None:
    sql("CREATE ROLE shy")
    sql("GRANT SELECT ON pgpubsub_sql_notification, pgpubsub_sql_subscription TO shy")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGOPTIONS", "-c role=shy")
            shown.handle()
            assert not shown.look()
        (line,) = [one for one in caplog.messages if "cannot be shown" in one]
        assert "GRANT SELECT, INSERT, DELETE ON public.pgpubsub_sql_inflight TO shy" in line
        sql("SET ROLE shy")
        assert not long_calls("default")
        run("status")
    finally:
        sql("RESET ROLE")
        sql("DROP OWNED BY shy")
        sql("DROP ROLE shy")


# --- Processes


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_hung_listener_is_seen(listen: Start, way: list[str]) -> None:
    listener = listen("--channels", "app.Job", "app.Shout", *way).ready()
    with listeners_wait():
        jobs("wait")
        (call,) = eventually(lambda: long_calls("default"))
        (row,) = Notification.objects.all()
        assert (call.message, call.listener) == (row.pk, DO_JOB)
        assert call.process == (workers(listener) or [listener.process.pid])[0]
        status = run_json("status")
        assert [one["listener"] for one in status["long"]] == [DO_JOB]
        assert f"\napp.Job: {DO_JOB} has been handling message {row.pk} for " in run("status")
        (hung, *_rest) = run_json("status", "--max-age", "0s", "app.Job")["problems"]
        assert f"If it hangs, kill process {call.process} on {socket.gethostname()}, and" in hung
        assert status["problems"] == []
        assert f" handling {DO_JOB} for " in " ".join(run("show", str(row.pk)).split())
        assert run_json("status", "app.Shout")["long"] == []
    eventually(lambda: not long_calls("default"))
    assert numbers("do_job") == [1]
    assert listener.stop() == 0


@pytest.mark.parametrize("way", EVERY_WAY[1:])
def test_a_worker_that_is_killed_is_no_longer_shown_and_replaced(
    listen: Start, way: list[str]
) -> None:
    listener = listen("--channels", "app.Job", *way).ready()
    with listeners_wait():
        jobs("wait")
        (call,) = eventually(lambda: long_calls("default"))
        os.kill(call.process, signal.SIGKILL)
        eventually(lambda: call.process not in {one.process for one in long_calls("default")})
        (again,) = eventually(lambda: long_calls("default"))
        assert again.process == workers(listener)[-1] != call.process
    eventually(lambda: numbers("do_job") == [1])
    assert listener.stop() == 0


def test_a_supervisor_that_is_killed_leaves_nothing_to_see(listen: Start) -> None:
    listener = listen("--channels", "app.Shout").ready()
    with listeners_wait():
        notify(Shout(number=1, mood="wait"))
        eventually(waiting)
        (call,) = eventually(lambda: long_calls("default"))
        assert (call.channel, call.message) == ("app.Shout", None)
        listener.process.kill()
        eventually(lambda: not long_calls("default"))


def test_only_our_sessions_count(shown: Shown) -> None:
    """A process number that was given to another session does not revive a row."""
    sql(
        "INSERT INTO pgpubsub_sql_inflight (session, host, process, channel, listener, since)"
        " SELECT pg_backend_pid(), 'gone', 1, 'app.Job', '', now()"
    )
    assert connection.connection is not None
    assert not long_calls("default")


def test_the_listener_that_is_called_is_published() -> None:
    pulse, seen = Pulse(), []
    delivery = Delivery([Job], using="default", schema="public", pulse=pulse)
    dispatch = delivery._states[Lane("app.Job")].dispatch
    ((*before, _call, select, tally),) = dispatch._listeners

    def call(**_fields: Any) -> None:
        seen.append(registry.paths()[pulse.listener[0] - 1])

    dispatch.__dict__["_listeners"] = [(*before, call, select, tally)]
    jobs("good")
    delivery.handle_stored("app.Job")
    assert seen == [DO_JOB]
    assert pulse.listener[0] == 0
