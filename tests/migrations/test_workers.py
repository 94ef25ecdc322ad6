"""Our migrations under a worker that runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, Listen, eventually
from tests.migrations.harness import ENVIRONMENT
from tests.migrations.versions import blog

if TYPE_CHECKING:
    from tests.migrations.harness import Project

ORDER = """
from dataclasses import dataclass

@dataclass
class Order(pgpubsub_sql.Channel):
    number: int
    lock_notifications = True
"""
LISTENER = """
from django.db import connection

@pgpubsub_sql.listener("blog.channels.Order")
def count(number):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO counted VALUES (%s)", [number])
"""


@pytest.fixture
def listen(project: Project, tmp_path: Path) -> Iterator[Callable[[], Listen]]:
    """Start a worker of the project."""
    started: list[Listen] = []
    path = f"{project.root}{os.pathsep}{ROOT}"

    def start() -> Listen:
        log = tmp_path / f"listen-{len(started)}.log"
        started.append(Listen(log, **ENVIRONMENT, PYTHONPATH=path))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_a_worker_says_that_its_tables_are_gone_and_goes_on_once_they_are_back(
    project: Project, listen: Callable[[], Listen]
) -> None:
    """What it says names what to run, and is no traceback."""
    project.write(blog(channels=ORDER, listeners=LISTENER))
    project.sql("CREATE TABLE counted (number integer)")
    first = listen()
    eventually(lambda: "Run: python manage.py migrate --database default" in first.log)
    project.run("migrate")
    worker = first.ready()
    send = "SELECT pgpubsub_notify('blog.Order', jsonb_build_object('number', %s::integer))"
    counted = "SELECT number FROM counted ORDER BY number"
    project.sql(send, 1)
    eventually(lambda: project.sql(counted) == [(1,)])

    project.run("migrate", "pgpubsub_sql", "zero")
    said = "blog.Order cannot be handled now: The tables of pgpubsub_sql are missing"
    project.sql("SELECT pg_notify('blog.Order', '')")
    eventually(lambda: said in worker.log)
    project.run("migrate")
    project.sql(send, 2)
    eventually(lambda: project.sql(counted) == [(1,), (2,)])
    assert worker.stop() == 0
    assert "Traceback" not in worker.log
