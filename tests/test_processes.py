"""What a worker process knows of the one that started it, and what its own children know of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from pgpubsub_sql import notify
from pgpubsub_sql.errors import WrongPlace
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job, Shout
from tests.app.models import Entry
from tests.conftest import LISTEN, Listen, eventually
from tests.delivery.sending import hasten, jobs
from tests.ledger import calls, listeners_wait, numbers, sql, stored, waiting
from tests.test_supervisor import alive, ends_within_a_second, free, workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]

EVERY_WAY = [["--worker"], ["--worker-start-method", "spawn"], ["--worker-start-method", "fork"]]


def quiet(*arguments: str) -> list[str]:
    """The command as users give it: the tests' own asks for a log level."""
    return [*LISTEN[:4], *arguments]


# --- What is logged


CONFIGURATIONS = {
    "none": "",
    "the existing are disabled": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    """,
    "configured by hand": """
        import logging.config
        LOGGING_CONFIG = None
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        })
    """,
    "configured late": """
        INSTALLED_APPS = [*INSTALLED_APPS, "late.Late"]
    """,
    "warnings": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler", "level": "WARNING"}},
            "root": {"handlers": ["console"]},
        }
    """,
    "Django alone": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "loggers": {"django": {"handlers": ["console"], "level": "INFO"}},
        }
    """,
    "ours alone": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "loggers": {"pgpubsub_sql": {"handlers": ["console"], "level": "INFO"}},
        }
    """,
    "JSON": """
        LOGGING = {
            "version": 1,
            "formatters": {"json": {"()": "pgpubsub_sql.logs.JSONFormatter"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    """,
}
LATE = """
import logging.config

from django.apps import AppConfig


class Late(AppConfig):
    name = "late"

    def ready(self):
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        })
"""


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_failures_are_logged_however_logging_is_configured(
    listen: Start, tmp_path: Path, name: str
) -> None:
    """F32: LOGGING disables the loggers that exist already, unless it says otherwise."""
    project = textwrap.dedent(CONFIGURATIONS[name])
    (tmp_path / "project.py").write_text(f"from tests.settings import *\n{project}")
    (tmp_path / "late.py").write_text(LATE)
    options = {
        "DJANGO_SETTINGS_MODULE": "project",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    both = [
        listen("--channels", "app.Shout", *way, command=quiet(), **options)
        for way in ([], ["--worker"])
    ]
    eventually(lambda: heard_by_all(both))
    for one in both:
        told = "Starting to listen" if name == "warnings" else "Listening to"
        assert one.log.count(told) == 1
        assert one.stop() == 0
    assert name == "warnings" or "Worker 0 started" in both[0].log


def heard_by_all(listening: list[Listen]) -> bool:
    """Send a message until each of them has told of its failure."""
    notify(Shout(number=1, mood="bad"))
    assert all(one.process.poll() is None for one in listening), [one.log for one in listening]
    return all("this listener is in a bad mood" in one.log for one in listening)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_output_of_a_listener_is_flushed_at_once(listen: Start, way: list[str]) -> None:
    """F33: also where it goes to a file or a pipe, to which Python writes blocks."""
    listener = listen("--channels", "app.Job", *way, PYTHONUNBUFFERED="").ready()
    jobs("print")
    eventually(lambda: "a word\n" in listener.log)
    assert listener.process.poll() is None


# --- Who starts it


UNGUARDED = """
import os, sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
CONFIGURED = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from tests import settings as tests
settings.configure(**{name: getattr(tests, name) for name in dir(tests) if name.isupper()})
execute_from_command_line(sys.argv)
"""
ELSEWHERE = """
import sys
from django.core.management import execute_from_command_line
from django.db.backends.signals import connection_created

def choose(connection, **_):
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO acme, public")

if __name__ == "__main__":
    connection_created.connect(choose)
    execute_from_command_line(sys.argv)
"""
IN_A_THREAD = """
import sys, threading
import django
from django.core.management import call_command

django.setup()
thread = threading.Thread(target=call_command, args=sys.argv[1:])
thread.start()
thread.join()
"""


@pytest.fixture
def script(listen: Start, tmp_path: Path) -> Callable[..., Listen]:
    """Start ``listen`` by a script with this text."""

    def start(text: str, *arguments: str, **environment: str) -> Listen:
        path = tmp_path / "manage.py"
        path.write_text(text)
        path = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
        command = [sys.executable, str(tmp_path / "manage.py"), "listen"]
        environment["PYTHONPATH"] = os.pathsep.join(path)
        return listen("--channels", "app.Job", *arguments, command=command, **environment)

    return start


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_script_needs_no_main_guard(script: Callable[..., Listen], way: list[str]) -> None:
    """F35: multiprocessing would import it once more in each worker."""
    listener = script(UNGUARDED, *way).ready()
    jobs("good")
    eventually(lambda: numbers("do_job") == [1])
    assert listener.stop() == 0, listener.log


@pytest.mark.parametrize("way", EVERY_WAY)
def test_settings_without_a_module_are_refused_when_spawning(
    script: Callable[..., Listen], way: list[str]
) -> None:
    """F40: a new process cannot know them, and must not take others."""
    listener = script(CONFIGURED, *way)
    jobs("good")
    if "spawn" in way:
        assert listener.process.wait(30) == 1
        assert "use --worker-start-method fork, or --worker" in listener.log
        assert listener.log.count("started as process") == 1
        assert not numbers("do_job")
    else:
        eventually(lambda: numbers("do_job") == [1])


@pytest.fixture
def acme() -> Iterator[None]:
    sql("CREATE SCHEMA acme")
    yield
    sql("DROP SCHEMA acme")


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_worker_serves_the_schema_of_its_command_or_none(
    script: Callable[..., Listen], acme: None, way: list[str]
) -> None:
    """F40: what has set up the command's connection may be missing in a new process."""
    listener = script(ELSEWHERE, *way)
    jobs("good")
    if "spawn" in way:
        assert listener.process.wait(30) == 1
        assert "leads to schema public of" in listener.log
        assert "use --worker-start-method fork, or --worker" in listener.log
        assert not numbers("do_job")
    else:
        eventually(lambda: numbers("do_job") == [1])
        assert listener.stop() == 0


@pytest.mark.parametrize("method", ["drain", "run"])
def test_a_worker_in_the_wrong_place_handles_nothing(method: str) -> None:
    """F40."""
    jobs("good")
    worker = Worker([Job], expected_place="schema public of database production")
    with pytest.raises(WrongPlace, match=r"leads to schema public of .*, but that of `listen` to"):
        getattr(worker, method)()
    assert not numbers("do_job")


@pytest.mark.parametrize("method", ["drain", "run"])
def test_a_worker_in_the_wrong_place_does_not_wait_for_migrations(
    acme: None, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """F40: a schema without our tables was taken for one that has not been migrated yet."""
    monkeypatch.setenv("PGOPTIONS", "-c search_path=acme")
    connection.close()
    worker = Worker([Job], expected_place="schema public of database production")
    try:
        with pytest.raises(WrongPlace, match=r"leads to schema acme of"):
            getattr(worker, method)()
    finally:
        connection.close()


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_worker_can_run_in_a_thread(script: Callable[..., Listen], way: list[str]) -> None:
    """F54: without signals, which end its process at once."""
    listener = script(IN_A_THREAD, *way).ready()
    jobs("good")
    eventually(lambda: numbers("do_job") == [1])
    for pid in workers(listener):
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: listener.log.count("Listening to") == 2)
    listener.stop()
    assert "Traceback" not in listener.log
    eventually(lambda: not any(map(alive, workers(listener))))


# --- A listener's children


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


# --- As process 1


ONE = ["unshare", "--pid", "--fork", "--kill-child"]
can_be_one = pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([*ONE, "true"], capture_output=True).returncode != 0,
    reason="needs the right to make a PID namespace",
)


def family(pid: int) -> list[int]:
    """Return the children of a process, zombies included."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@can_be_one
@pytest.mark.parametrize("way", EVERY_WAY)
def test_process_1_of_a_container_reaps_orphans_and_can_be_aborted(
    listen: Start, way: list[str]
) -> None:
    """F54: PostgreSQL rolls back the messages in flight."""
    listener = listen("--channels", "app.Job", *way, within=ONE)
    jobs("leave an orphan", "leave an orphan")
    eventually(lambda: sorted(numbers("do_job")) == [1, 2])
    (one,) = family(listener.process.pid)
    eventually(lambda: len(family(one)) == 1)
    with listeners_wait():
        notify(Job(number=3, mood="wait"))
        eventually(waiting)

        def ends() -> bool:
            os.kill(one, signal.SIGTERM)
            return ends_within_a_second(listener.process, signal.SIGCONT)

        eventually(ends)
    assert listener.process.returncode == 1


@can_be_one
def test_process_1_of_a_container_ends_gracefully(listen: Start) -> None:
    """F54."""
    listener = listen("--channels", "app.Job", "--worker", within=ONE)
    listener.ready()
    (one,) = family(listener.process.pid)
    os.kill(one, signal.SIGTERM)
    assert listener.process.wait(30) == 0
