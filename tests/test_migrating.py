"""Subscriptions and a history come and go while an older worker runs and messages wait."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from pgpubsub_sql import Handled, Notification
from pgpubsub_sql.subscribing import unregister
from pgpubsub_sql.subscriptions import Lane
from tests.conftest import Listen, eventually
from tests.ledger import sql

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "orders.Order"
SETTINGS = """
    from tests.settings import *

    INSTALLED_APPS = [*INSTALLED_APPS, "orders"]
"""
CHANNELS = """
    import datetime
    from dataclasses import dataclass
    from pgpubsub_sql import Channel

    @dataclass
    class Order(Channel):
        number: int
        lock_notifications = True
        {option}
"""
LISTENERS = """
    from django.db import connection
    from orders.channels import Order
    from pgpubsub_sql import listener

    def note(number, name):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO handled VALUES (%s, %s, %s)", [number, name, "{version}"])

    @listener(Order)
    def count(number):
        note(number, "")
"""
SUBSCRIBERS = """
    @listener(Order, subscription="mail")
    def mail(number):
        note(number, "mail")

    @listener(Order, subscription="search", start="history")
    def index(number):
        note(number, "search")
"""
FORMER, LATER = range(10), range(10, 20)


def project(directory: Path, version: str, option: str = "", more: str = "") -> dict[str, str]:
    """Write this version of the code; return the environment in which it runs."""
    app = directory / version / "orders"
    app.mkdir(parents=True)
    (app.parent / "project_settings.py").write_text(dedent(SETTINGS))
    (app / "__init__.py").touch()
    (app / "channels.py").write_text(dedent(CHANNELS).format(option=option))
    source = dedent(LISTENERS).format(version=version) + dedent(more)
    (app / "listeners.py").write_text(source)
    path = os.pathsep.join([str(app.parent), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "project_settings"}


def migrate(environment: dict[str, str]) -> None:
    ((database,),) = sql("SELECT current_database()")
    command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0", "--skip-checks"]
    subprocess.run(command, env=os.environ | {"PGDATABASE": database} | environment, check=True)


def send(numbers: range, due: str = "now()") -> None:
    """Send as SQL can, whatever is registered."""
    for number in numbers:
        sql(
            "SELECT pgpubsub_store_v1(%s, jsonb_build_object('number', %s::integer), "
            f"{due}, NULL, NULL)",
            *(NAME, number),
        )


@pytest.fixture
def handled(transactional_db: None) -> Iterator[Callable[[str], Counter[int]]]:
    """Return how often each number was handled for a subscription."""
    sql("CREATE TABLE handled (number integer, name text, version text)")
    yield lambda name: Counter(
        number for (number,) in sql("SELECT number FROM handled WHERE name = %s", name)
    )
    sql("DROP TABLE handled")
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s", NAME)
    sql("TRUNCATE pgpubsub_sql_history")


def is_empty() -> bool:
    return not Notification.objects.filter(channel=NAME).exists()


def test_both_ways_nothing_is_lost_and_nothing_comes_twice(
    listen: Callable[..., Listen], tmp_path: Path, handled: Callable[[str], Counter[int]]
) -> None:
    old = project(tmp_path, "old")
    new = project(tmp_path, "new", "keep = datetime.timedelta(days=7)", SUBSCRIBERS)
    worker = listen("--channels", NAME, **old).ready()
    send(FORMER, due="now() + interval '1 hour'")

    migrate(new)
    newer = listen("--channels", NAME, **new).ready()
    eventually(lambda: "which is the last" in newer.log)
    send(LATER)
    sql("UPDATE pgpubsub_sql_notification SET available_at = now() WHERE channel = %s", NAME)
    eventually(is_empty)
    assert handled("") == handled("search") == Counter([*FORMER, *LATER])
    assert handled("mail") == Counter(LATER)
    kept = Handled.objects.filter(channel=NAME).values_list("subscription", "payload__number")
    assert Counter(kept) == Counter(sql("SELECT name, number FROM handled WHERE version = 'new'"))

    assert newer.stop() == 0
    migrate(old)
    before = range(20, 25)
    send(before)
    eventually(lambda: not handled("").keys().isdisjoint([before[-1]]))
    waiting = Notification.objects.filter(channel=NAME)
    assert Counter(waiting.values_list("subscription", flat=True)) == {"mail": 5, "search": 5}
    for name in ("mail", "search"):
        assert unregister("default", Lane(NAME, name))
    waiting.delete()
    send(range(25, 30))
    eventually(is_empty)
    assert handled("") == Counter(range(30))
    assert worker.stop() == 0
    assert "Traceback" not in worker.log + newer.log
