"""What child processes of a listener know of their worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from tests.app.channels import Job
from tests.app.models import Entry
from tests.conftest import Listen, eventually
from tests.delivery.sending import hasten, jobs
from tests.ledger import calls, listeners_wait, numbers, stored, waiting
from tests.processes.support import EVERY_WAY, free, workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


@pytest.mark.parametrize("way", EVERY_WAY)
def test_child_processes_of_a_listener_react_to_signals(listen: Start, way: list[str]) -> None:
    """F42: they end when they are terminated, and their end is not the worker's."""
    listener = listen("--channels", "app.Job", *way).ready()
    jobs("parents", "fork")
    eventually(lambda: sorted(numbers("do_job")) == [1, 2])
    assert calls("terminated") == [{"code": -signal.SIGTERM}]
    assert calls("interrupted") == [{"code": -signal.SIGINT}]
    usual = subprocess.check_output(
        [sys.executable, "-c", "import multiprocessing as m; print(m.get_start_method())"],
        text=True,
    )
    assert calls("start method") == [{"name": usual.strip()}]
    assert calls("child") == [{"handler": True}] * 2
    assert calls("parent") == [{"status": 0}]
    jobs("good")
    eventually(lambda: len(numbers("do_job")) == 3)
    assert listener.log.count("started as process") <= 1
    assert listener.stop() == 0


@pytest.mark.parametrize("way", EVERY_WAY[:2])
@pytest.mark.parametrize("mood", ["fork and return", "fork and exit"])
def test_a_forked_child_that_returns_from_the_listener_ends(
    listen: Start, way: list[str], mood: str
) -> None:
    """F42: it handles nothing, and ends."""
    listener = listen("--channels", "app.Job", *way).ready()
    jobs("good", mood, "good")
    eventually(lambda: sorted(numbers("do_job")) == [1, 2, 3])
    assert not stored()
    assert len({entry.pid for entry in Entry.objects.all()}) == 1
    assert "died" not in listener.log
    assert listener.stop() == 0


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_dead_worker_is_noticed_although_its_children_live_on(
    listen: Start, way: list[str]
) -> None:
    """F45: a process forked by its listener keeps neither the message nor the supervisor."""
    jobs("fork and stay", "good")
    with listeners_wait():
        listener = listen("--channels", "app.Job", *way)
        eventually(waiting)
        for pid in workers(listener) or [listener.process.pid]:
            os.kill(pid, signal.SIGKILL)
        if "--worker" in way:
            eventually(lambda: free() == 2)
        else:
            eventually(lambda: listener.log.count("Listening to") == 2)
    if "--worker" not in way:
        eventually(lambda: hasten() or sorted(numbers("do_job")) == [1, 2])


@pytest.mark.parametrize("way", EVERY_WAY)
def test_signal_handlers_are_restored_after_a_message(listen: Start, way: list[str]) -> None:
    """F54: a library installs handlers or blocks signals; an event loop removes the wake-up fd."""
    listener = listen("--channels", "app.Job", *way).ready()
    jobs("signals", "good")
    eventually(lambda: numbers("do_job") == [1, 2])
    assert listener.stop() == 0
    assert "Traceback" not in listener.log
    assert "is killed" not in listener.log


@pytest.mark.parametrize("way", [["--processes", "1"], ["--worker-start-method", "fork"]])
def test_a_request_to_stop_reaches_a_worker_whose_listener_ignored_the_signal(
    listen: Start, way: list[str]
) -> None:
    """F54: the signal that came meanwhile is lost, so the supervisor sends it again."""
    jobs("ignore SIGTERM")
    with listeners_wait():
        listener = listen("--channels", "app.Job", *way)
        eventually(waiting)
        listener.process.send_signal(signal.SIGTERM)
        eventually(lambda: "Waiting for 1 worker" in listener.log)
    assert listener.process.wait(30) == 0, listener.log
    assert numbers("do_job") == [1]


def test_a_timeout_under_gevent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """F54: under gevent the watch is a greenlet; a listener that sleeps would never end."""
    patched = SimpleNamespace(is_module_patched=lambda name: name == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)
    monkeypatch.setattr(Job, "timeout", 1.0)
    with pytest.raises(CommandError, match=r"The timeout of app.Job cannot be kept: gevent has"):
        call_command("listen", "--channels", "app.Job", "app.Shout", "--worker", "--drain")
    monkeypatch.setattr(Job, "timeout", None)
    call_command("listen", "--channels", "app.Job", "--worker", "--drain")
