"""``manage.py listen`` as a process, on a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

import pgpubsub_sql
from example.blog.models import Author
from pgpubsub_sql import Notification, notification_context, notify
from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job, Shout
from tests.app.models import Item
from tests.conftest import ROOT, Listen, eventually
from tests.ledger import calls, numbers, sql
from tests.registries import blank  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def jobs(numbers: Iterable[int]) -> None:
    for number in numbers:
        notify(Job(number=number))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "django", "listen", *arguments],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PGDATABASE": connection.settings_dict["NAME"],
        }
        | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_rows_arrive_as_instances_and_each_listener_gets_its_events(listen: Start) -> None:
    """P4: in the peer only the first trigger exists, and callbacks run on the wrong events."""
    listen().ready()
    item = Item.objects.create(name="one", amount="1.10", data={"a": 1.5})
    with notification_context({"user": 7}):
        item.name = "two"
        item.save()
    item.delete()
    eventually(lambda: calls("item_deleted"))
    assert calls("item_inserted") == [{"name": "one", "amount": "1.10", "data": {"a": 1.5}}]
    assert calls("item_updated") == [{"old": "one", "new": "two", "context": {"user": 7}}]
    assert calls("item_deleted") == [{"name": "two"}]
    assert calls("item_saved") == [
        {"name": "one", "kwargs": ["old"]},
        {"name": "two", "kwargs": ["old"]},
    ]
    assert not Notification.objects.exists()


LACKS = (
    "The table pgpubsub_sql_notification in the database 'default' has no expires_at: it is older "
    "than this version of the code, or newer. Run: python manage.py migrate --database default"
)


@contextmanager
def older() -> Iterator[None]:
    """A table that is not what the code needs."""
    sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN expires_at TO expired_at")
    try:
        yield
    finally:
        sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN expired_at TO expires_at")


def test_a_table_that_is_migrated_backwards_is_waited_out(listen: Start) -> None:
    """The worker neither ends nor retries without a pause, as no message is at fault."""
    worker = listen("--channels", "app.Job").ready()
    with older():
        sql("SELECT pg_notify('app.Job', '')")
        said = f"Stored messages of channel app.Job cannot be handled now: {LACKS}"
        eventually(lambda: said in worker.log)
    notify(Job(number=1))
    eventually(lambda: numbers("do_job") == [1])
    assert "Traceback" not in worker.log


def test_a_table_that_is_older_than_the_code_is_awaited(listen: Start) -> None:
    with older():
        worker = listen("--channels", "app.Job")
        eventually(lambda: f"Cannot listen: {LACKS}" in worker.log)
        with pytest.raises(CommandError, match=re.escape(LACKS)):
            call_command("pgpubsub", "status")
    worker.ready()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_drain_handles_ready_messages_and_exits(processes: str) -> None:
    jobs(range(30))
    notify(Job(number=98), delay=timedelta(hours=1))
    notify(Job(number=99))
    Notification.objects.filter(payload__number=99).update(available_at=None)
    notify(Job(number=100, mood="bad"))
    notify(Job(number=101, mood="close"))
    result = run("--drain", "--processes", processes)
    assert result.returncode == 1, result.stderr
    assert sorted(numbers("do_job")) == list(range(30))
    left = Notification.objects.order_by("payload__number").values_list(
        "payload__number", "attempts"
    )
    assert list(left) == [(98, 0), (99, 0), (100, 1), (101, 1)]


SUMMARY = re.compile(
    r"Drained: (\d+) handled, (\d+) failed and will be retried, (\d+) parked, (\d+) discarded by "
    r"their listeners; (\d+) are still ready\n"
)


@pytest.mark.parametrize("options", [["--worker"], [], ["--processes", "2"]])
def test_drain_logs_a_summary_and_exits_with_1_if_messages_failed(options: list[str]) -> None:
    """F59: it logged nothing at its end, and exited with 0 although messages had failed."""
    # A deadlock is tried again within a second, and the message that closes its connection is free
    # until its failure is recorded: another process may meet either, too.
    moods = ["bad", "bad", "discard", "bad"]
    if "2" not in options:
        moods = ["bad", "close", "discard", "bad", "deadlock"]
    jobs([1])
    for number, mood in enumerate(moods, start=2):
        notify(Job(number=number, mood=mood))
    Notification.objects.filter(payload__number=5).update(attempts=9)
    notify(Job(number=7), delay=timedelta(hours=1))
    result = run("--drain", "--channels", "app.Job", *options)
    assert result.returncode == 1
    told = [list(map(int, found)) for found in SUMMARY.findall(result.stderr)]
    assert len(told) == (2 if "2" in options else 1), result.stderr
    failed = len(moods) - 2
    assert [sum(numbers) for numbers in zip(*told, strict=True)][:4] == [1, failed, 1, 1]
    assert " ERROR listen" in result.stderr  # F57: levels were cut to "ERRO"


@pytest.mark.parametrize("options", [["--worker"], []])
def test_drain_exits_with_0_if_no_message_failed(options: list[str]) -> None:
    """F59: discarded and delayed messages have not failed."""
    jobs([1])
    notify(Job(number=2, mood="discard"))
    notify(Job(number=3), delay=timedelta(hours=1))
    result = run("--drain", "--channels", "app.Job", *options)
    assert result.returncode == 0, result.stderr
    assert SUMMARY.findall(result.stderr) == [("1", "0", "0", "1", "0")]


@pytest.fixture
def chain(blank: None) -> list[int]:  # noqa: F811
    """Two channels whose listeners send on each other; return the numbers that have arrived."""

    @dataclass
    class Sale(pgpubsub_sql.Channel):
        number: int
        lock_notifications = True
        channel_name = "tests.Sale"

    @dataclass
    class Order(pgpubsub_sql.Channel):
        number: int
        lock_notifications = True
        channel_name = "tests.Order"

    heard: list[int] = []

    @pgpubsub_sql.listener(Order)
    def ordered(number: int) -> None:
        notify(Sale(number))

    @pgpubsub_sql.listener(Sale)
    def sold(number: int) -> None:
        heard.append(number)
        if number > 1:
            notify(Order(number - 1))

    return heard


def test_a_drain_handles_what_its_listeners_send(chain: list[int]) -> None:
    """Whichever channel comes first."""
    notify("tests.Order", number=3)
    assert Worker(declared_channels()).drain()
    assert chain == [3, 2, 1]
    assert not Notification.objects.exists()


@pytest.mark.usefixtures("blank")
def test_a_drain_leaves_what_has_failed_although_it_is_ready_at_once() -> None:
    """It used up all attempts."""

    @dataclass
    class Sale(pgpubsub_sql.Channel):
        number: int
        lock_notifications = True
        channel_name = "tests.Sale"

    @pgpubsub_sql.listener(Sale)
    def sold(number: int) -> None:
        raise pgpubsub_sql.RetryAfter(0)

    notify(Sale(1))
    assert not Worker([Sale]).drain()
    assert Notification.objects.get().attempts == 1


def test_a_drain_ends_although_its_listeners_go_on_sending(
    chain: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpubsub_sql.worker.worker.MOST_LOOKS", 4)
    notify("tests.Order", number=9)
    assert Worker(declared_channels()).drain()
    assert len(chain) == 2
    assert Notification.objects.count() == 1


def test_verbosity_sets_the_log_level() -> None:
    """F57: -v 2 changed nothing."""
    handled = "Handled a message of channel app.Job in "
    for verbosity, is_told, starts in (("0", False, 0), ("1", False, 1), ("2", True, 1)):
        jobs([1])
        log = run("--drain", "--channels", "app.Job", "-v", verbosity).stderr
        assert (handled in log, log.count("Worker 0 started")) == (is_told, starts)
    jobs([1])
    assert handled not in run("--drain", "-v", "2", "--loglevel", "info").stderr


def test_channels_are_selected_and_excluded(listen: Start) -> None:
    """P27: by base class, module path and name in PostgreSQL."""
    chosen = ("pgpubsub_sql.Channel", "tests.app.channels.ItemChannel")
    worker = listen("--channels", *chosen, "--exclude", "app.Shout", "tests.app.channels.Step")
    assert "Listening to blog.PostReads, app.Job, app.Load, app.ItemChannel\n" in worker.ready().log
    notify(Job(number=1))
    eventually(lambda: numbers("do_job") == [1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--channels", "app.Jobb"], "Did you mean 'app.Job'?"),
        (["--exclude", "blog.PostRead"], "Did you mean 'blog.PostReads'?"),
        (["--exclude", "pgpubsub_sql.channels.BaseChannel"], "No channel is called"),
        (["--channels", "app.Job", "--exclude", "tests.app.channels.Job"], "nothing to listen to"),
        (["--processes", "0"], "at least 1"),
        (["--loglevel", "loud"], "invalid choice"),
        (["--database", "nowhere"], "invalid choice: 'nowhere' (choose from"),
        (["--worker", "--processes", "2"], "--worker runs one process"),
        (["--worker", "--health-port", "0"], "are for: leave out --health-port."),
        (["--worker", "--max-memory", "9", "--shutdown-timeout", "9"], "--max-memory, --shutdown"),
        (["--drain", "--max-notifications", "9"], "leave out --max-notifications."),
        (["--health-port", "65536"], "is not a port"),
    ],
)
def test_invalid_arguments_are_explained(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=re.escape(words)):
        call_command("listen", *arguments, skip_checks=True)


def test_no_server_is_a_clear_error() -> None:
    # Skipped: a check of Django's asks the server about virtual columns of tests.rows.
    result = run("--drain", "--skip-checks", PGHOST="/nowhere")
    assert result.returncode == 1
    assert "/nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_migrations_are_a_clear_error() -> None:
    result = run("--drain", PGDATABASE="template1")
    assert result.returncode == 1
    assert "manage.py migrate" in result.stderr
    assert "Traceback" not in result.stderr


TWO_DATABASES = """
from tests.settings import *

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    "other": DATABASES["default"],
}
DATABASE_ROUTERS = ["two_databases.Router"]


class Router:
    def db_for_read(self, model, **hints):
        return "other"

    db_for_write = db_for_read
"""


def test_another_database_can_be_listened_to(listen: Start, tmp_path: Path) -> None:
    (tmp_path / "two_databases.py").write_text(TWO_DATABASES)
    arguments = ["--settings", "two_databases", "--pythonpath", str(tmp_path)]
    refused = run(*arguments)
    assert refused.returncode == 1
    assert "The database 'default' is SQLite" in refused.stderr
    assert "Traceback" not in refused.stderr
    listen("--database", "other", *arguments).ready()
    notify(Shout(number=1))
    eventually(lambda: numbers("hear_only_number") == [1])


def test_help_explains_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command("listen", "--help")
    taught = capsys.readouterr().out
    assert "manage.py listen --channels blog.AuthorChannel   one channel\n" in taught
    assert "a second one, at least a second later, aborts." in taught


def test_the_example_works(listen: Start) -> None:
    """As in the documentation of django-pgpubsub: a first post for every new author."""
    listen().ready()
    Author.objects.bulk_create([Author(name="Zoë"), Author(name="Åse")])
    eventually(lambda: not Notification.objects.exists())
    titles = [post.title for author in Author.objects.order_by("id") for post in author.posts.all()]
    assert titles == ["Welcome, Zoë!", "Welcome, Åse!"]
