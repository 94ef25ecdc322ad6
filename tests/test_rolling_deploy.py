"""Two versions of a project's code at work on one database, as in the midst of a deploy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from pgpubsub_sql.models import Notification
from tests.conftest import Listen, eventually
from tests.ledger import sql

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = """
    from tests.settings import *

    INSTALLED_APPS = [*INSTALLED_APPS, "orders"]
"""
CHANNELS = """
    from dataclasses import dataclass
    from pgpubsub_sql import Channel

    @dataclass
    class Order(Channel):
        number: int
        {field}
        lock_notifications = True
        {option}
"""
LISTENERS = """
    from django.db import connection
    from orders.channels import Order
    from pgpubsub_sql import listener
    from pgpubsub_sql.worker import outcomes, worker
    from tests.patience import WAITS

    outcomes.READ_AGAIN_SECONDS = [seconds / 25 for seconds in WAITS]
    worker.POLL_SECONDS = 0.4  # both as users have them, 25 times as quick

    @listener(Order)
    def handle(number):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO handled VALUES (%s, %s)", [number, "{field}"])
"""
OLD, NEW = "price: float", "cents: int"
MESSAGES = 60


def project(directory: Path, **version: str) -> dict[str, str]:
    """Write this version of the code; return the environment in which it runs."""
    app = directory / "orders"
    app.mkdir(parents=True)
    (directory / "project_settings.py").write_text(dedent(SETTINGS))
    (app / "__init__.py").touch()
    (app / "channels.py").write_text(dedent(CHANNELS).format(**version))
    (app / "listeners.py").write_text(dedent(LISTENERS).format(**version))
    path = os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "project_settings"}


@pytest.fixture
def handled(transactional_db: None) -> Iterator[Callable[[], list[tuple[int, str]]]]:
    """Return which message was handled by which version."""
    sql("CREATE TABLE handled (number integer, version text)")
    yield lambda: sql("SELECT number, version FROM handled ORDER BY number")
    sql("DROP TABLE handled")


@pytest.mark.parametrize("option", ["", 'ordering_key = "number"'])
def test_each_message_is_handled_by_a_worker_of_its_version(
    listen: Callable[..., Listen],
    tmp_path: Path,
    handled: Callable[[], list[tuple[int, str]]],
    option: str,
) -> None:
    """F53: a field is renamed in one step, and most workers are still of the old version."""
    old = project(tmp_path / "old", field=OLD, option=option)
    new = project(tmp_path / "new", field=NEW, option=option)
    workers = [
        listen("--channels", "orders.Order", "--processes", "4", **old),
        listen("--channels", "orders.Order", **new),
    ]
    for worker, processes in zip(workers, (4, 1), strict=True):
        worker.ready(processes)
    payloads = ['{"number": %s, "price": 1.5}', '{"number": %s, "cents": 150}']
    for number in range(MESSAGES):
        sql("SELECT pgpubsub_notify('orders.Order', %s)", payloads[number % 2] % number)
    eventually(lambda: not Notification.objects.exclude(available_at=None).exists())
    assert not Notification.objects.exists()
    assert handled() == [(number, [OLD, NEW][number % 2]) for number in range(MESSAGES)]
    assert [one.stop() for one in workers] == [0, 0]
