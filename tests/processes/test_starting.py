"""What a worker process knows of the one that started it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from pgpubsub_sql.errors import WrongPlace
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import numbers, sql
from tests.processes.support import EVERY_WAY, alive, workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


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
