"""``listen --reload``: a project whose files change under running workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Listen, eventually
from tests.ledger import listeners_wait, sql, waiting
from tests.processes.support import abort, alive, workers

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]

SETTINGS = """
from tests.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "news"]
DEBUG = True
"""
CHANNELS = """
from dataclasses import dataclass
from pgpubsub_sql import Channel

@dataclass
class News(Channel):
    number: int
    lock_notifications = True
"""
LISTENERS = """
from django.db import connection
from pgpubsub_sql import listener
from news.channels import News

@listener(News)
def hear(number):
    if number == 1:
        connection.cursor().execute("SELECT pg_advisory_xact_lock(77)")
    print("{version} has heard of", number)
"""


class Project:
    """A project whose listener says which version of the code it is."""

    def __init__(self, directory: Path, listen: Start) -> None:
        self.directory = directory
        self._listen = listen
        (directory / "news").mkdir()
        self.write("news/__init__.py", "")
        self.write("fresh_settings.py", SETTINGS)
        self.write("news/channels.py", CHANNELS)
        self.be("The first version")

    def write(self, file: str, text: str) -> None:
        """Write a file at once, as editors do, so that nobody reads half of it."""
        new = self.directory / f"{file}.new"
        new.write_text(text)
        new.rename(self.directory / file)

    def be(self, version: str) -> None:
        """Have the listener of another version."""
        self.write("news/listeners.py", LISTENERS.format(version=version))

    def listen(self, *arguments: str) -> Listen:
        """Start ``listen`` for the project."""
        return self._listen(
            *("--channels", "news.News", *arguments),
            PYTHONPATH=str(self.directory),
            DJANGO_SETTINGS_MODULE="fresh_settings",
        )


@pytest.fixture
def project(tmp_path: Path, listen: Start) -> Project:
    return Project(tmp_path, listen)


def send(number: int) -> None:
    sql("SELECT pgpubsub_notify('news.News', %s)", f'{{"number": {number}}}')


def test_the_message_in_flight_is_finished_by_the_code_that_has_begun_it(project: Project) -> None:
    """However often files are changed meanwhile."""
    listener = project.listen("--processes", "2").ready(2)
    with listeners_wait():
        send(1)
        eventually(waiting)
        project.be("The second version")
        eventually(lambda: "listeners.py changed: `listen` starts anew" in listener.log)
        project.be("The third version")
        eventually(lambda: "to finish the messages in flight" in listener.log)
    listener.ready(4)
    send(2)
    eventually(lambda: "has heard of 2" in listener.log)
    assert "The first version has heard of 1" in listener.log
    assert "The third version has heard of 2" in listener.log
    assert listener.stop() == 0, listener.log
    # On a busy machine, the third version may be noticed only once it runs.
    assert listener.log.count("changed: `listen` starts anew") <= 2
    assert not any(map(alive, workers(listener)))


def test_a_syntax_error_is_said_and_the_next_change_awaited(project: Project) -> None:
    listener = project.listen().ready()
    project.write("news/listeners.py", "def hear(:")
    eventually(lambda: "It is started again once a file changes" in listener.log)
    assert "SyntaxError: invalid syntax" in listener.log
    assert listener.process.poll() is None
    project.be("The second version")
    listener.ready(2)
    send(2)
    eventually(lambda: "The second version has heard of 2" in listener.log)
    os.killpg(listener.process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    assert listener.process.wait(30) == 0, listener.log
    ending = listener.log.rpartition("heard of 2")[2]
    assert "Traceback" not in ending
    assert "has ended with exit status" not in ending


def test_a_second_signal_aborts(project: Project) -> None:
    listener = project.listen().ready()
    with listeners_wait():
        send(1)
        eventually(waiting)
        listener.process.send_signal(signal.SIGTERM)
        abort(listener, signal.SIGTERM)
    assert listener.process.returncode == 1, listener.log
    assert "has heard of 1" not in listener.log


def test_nothing_outlives_the_process_that_was_started(project: Project) -> None:
    listener = project.listen().ready()
    listener.process.kill()
    listener.process.wait(30)
    eventually(lambda: not any(map(alive, workers(listener))))
