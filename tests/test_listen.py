"""``manage.py listen``, as a process of its own, against the real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from example.blog.models import Author
from pgpubsub_sql import Notification, notification_context, notify
from pgpubsub_sql.embedded import Server
from pgpubsub_sql.models import LongPayload
from tests.app.channels import Job, Place, Shout
from tests.app.models import Entry, Item
from tests.conftest import ROOT, Listen, eventually
from tests.ledger import backends, calls, listeners_wait, numbers, sql, stranger, waiting

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def execute(statement: str, *values: object) -> None:
    """Write as somebody who knows nothing of Django."""
    with stranger() as cursor:
        cursor.execute(statement, values or None)


def jobs(numbers: Iterable[int]) -> None:
    for number in numbers:
        notify(Job(number=number))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return run_django("listen", *arguments, **environment)


def run_django(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of Django's commands to its end."""
    return subprocess.run(
        [sys.executable, "-m", "django", *arguments],
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


# What arrives.


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


def test_fields_arrive_typed_nested_and_optional(listen: Start) -> None:
    listen().ready()
    notify(Shout(1, at=timezone.now(), places=[Place("here", (1.0, 2.0)), Place("there")]))
    eventually(lambda: calls("hear_only_number") == [{"number": 1, "extra": "a default"}])
    (heard,) = calls("hear")
    assert heard["types"] == {"number": "int", "mood": "str", "at": "datetime", "places": "list"}


def test_raw_sql_of_every_kind_arrives(listen: Start) -> None:
    listen().ready()
    execute("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
    execute("SELECT pgpubsub_notify('app.Job', '{\"number\": 2}')")
    execute("INSERT INTO app_item (name, number, amount, data) VALUES ('sql', 0, 0, '{}')")
    eventually(lambda: calls("hear") and calls("do_job") and calls("item_inserted"))
    assert (numbers("hear"), numbers("do_job")) == ([1], [2])


@pytest.mark.parametrize("processes", [1, 3])
def test_durable_is_handled_once_and_ephemeral_by_every_process(
    listen: Start, processes: int
) -> None:
    """P6 and P7: also equal messages, and whatever the number of workers."""
    listen("--processes", str(processes)).ready(processes)

    def send(first: int) -> None:
        with stranger() as cursor:
            for number in range(first, first + 40):
                cursor.execute("BEGIN")
                message = f'{{"number": {number}}}'
                cursor.execute("SELECT pgpubsub_notify('app.Job', %s)", [message])
                cursor.execute("COMMIT" if number % 4 else "ROLLBACK")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(0, 320, 40)))
    with transaction.atomic():
        for _ in range(5):
            notify(Job, number=1000)
            notify(Shout, number=1000)
    eventually(lambda: len(numbers("do_job")) >= 245 and len(numbers("hear")) >= 5 * processes)
    eventually(lambda: not Notification.objects.exists())
    committed = [number for number in range(320) if number % 4]
    assert sorted(numbers("do_job")) == [*committed, *[1000] * 5]
    heard = Entry.objects.filter(listener="hear").values_list("pid", flat=True)
    assert sorted(map(list(heard).count, set(heard))) == [5] * processes


def test_what_was_stored_before_is_handled_by_who_starts_later(listen: Start) -> None:
    """P10: without --recover, and at once."""
    notify(Job, number=1)
    listen().ready()
    eventually(lambda: numbers("do_job") == [1])


def test_a_long_ephemeral_message_arrives_whole(listen: Start) -> None:
    """P13: beyond what a NOTIFY holds."""
    listen().ready()
    Item.objects.create(name="x" * 20_000)
    (news,) = eventually(lambda: calls("news"))
    assert news == {"name": "x" * 20_000}


# What fails.


def test_a_failure_is_logged_and_put_back_and_the_worker_goes_on(listen: Start) -> None:
    """P8: in the peer one exception ends the process, and what it had in memory is lost."""
    worker = listen().ready()
    with transaction.atomic():
        for number, mood in enumerate(["good", "bad", "broken-sql", "dangling", "good"]):
            notify(Job, number=number, mood=mood)
        notify(Shout, number=1, mood="bad")
        notify(Shout, number=2)
    eventually(lambda: numbers("do_job") == [0, 4] and numbers("hear") == [2])
    eventually(lambda: Notification.objects.count() == 3)
    for notification in Notification.objects.all():
        assert notification.attempts == 1
        assert "Traceback" in notification.last_error
        wait = notification.available_at - timezone.now()
        assert timedelta(seconds=0) < wait < timedelta(seconds=12)
        assert f"Notification {notification.pk} of channel app.Job failed" in worker.log
    assert "this listener is in a bad mood" in worker.log
    assert "A message on channel app.Shout failed" in worker.log


def test_after_ten_failures_it_is_parked(listen: Start) -> None:
    notify(Job, number=1, mood="bad")
    Notification.objects.update(attempts=9)
    listen().ready()
    eventually(lambda: Notification.objects.parked().filter(attempts=10).exists())


def test_untrusted_input_never_stops_it(listen: Start) -> None:
    """P19: what cannot be read is logged with the channel, and parked where it is durable."""
    worker = listen().ready()
    for payload in ["rubbish", "[]", "{}", '{"number": "x"}', "[" * 5000]:
        execute("SELECT pg_notify('app.Shout', %s)", payload)
    execute("SELECT pgpubsub_notify('app.Job', '{\"number\": \"x\"}')")
    execute("SELECT pg_notify('app.Job', 'data on a durable channel')")
    execute('SELECT pg_notify(\'app.Shout\', \'{"number": 5, "$schema": "elsewhere"}\')')
    execute("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
    eventually(lambda: numbers("hear") == [1])
    eventually(lambda: Notification.objects.parked().count() == 2)
    misfit, text = Notification.objects.parked()
    assert "app.Job: " in misfit.last_error
    assert "number" in misfit.last_error
    assert text.payload == {"$raw": "data on a durable channel"}
    assert worker.log.count("A message on channel app.Shout was dropped") == 5
    assert "pgpubsub_notify" in worker.log


def test_a_listener_that_closes_djangos_connection_does_not_end_listening(listen: Start) -> None:
    """P12: LISTEN has a connection of its own, where no transaction pins the NOTIFY queue."""
    listen().ready()
    notify(Job(number=1, mood="close"))
    notify(Job(number=2))
    notify(Shout(number=3))
    eventually(lambda: numbers("do_job") == [2] and numbers("hear") == [3])
    with listeners_wait():
        notify(Job(number=4, mood="wait"))
        eventually(waiting)
        notify(Shout(number=5))
        (pid,) = backends("pgpubsub_sql listen")
        assert sql("SELECT state FROM pg_stat_activity WHERE pid = %s", pid) == [("idle",)]
    eventually(lambda: numbers("do_job") == [2, 4] and numbers("hear") == [3, 5])


def test_what_is_wrong_with_the_database_is_waited_out(listen: Start) -> None:
    """A failure that is no message's fault neither spins nor ends the worker."""
    worker = listen("--channels", "app.Job").ready()
    sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN expires_at TO expired_at")
    try:
        sql("SELECT pg_notify('app.Job', '')")
        eventually(lambda: "Channel app.Job cannot be looked at: column" in worker.log)
    finally:
        sql("ALTER TABLE pgpubsub_sql_notification RENAME COLUMN expired_at TO expires_at")
    notify(Job(number=1))
    eventually(lambda: numbers("do_job") == [1])


def test_what_is_due_is_handled_without_a_ring(listen: Start) -> None:
    """P10: delayed or to be retried, it is found in its time; and expired payloads are swept."""
    LongPayload.objects.create(payload={}, expires_at=timezone.now())
    worker = listen("--channels", "app.Job").ready()
    notify(Job(number=1), delay=timedelta(seconds=1))
    eventually(lambda: numbers("do_job") == [1], within=8)
    eventually(lambda: not LongPayload.objects.exists())
    assert worker.process.poll() is None


# How it ends.


@pytest.mark.parametrize("processes", ["1", "2"])
def test_drain_handles_what_is_ready_and_ends(processes: str) -> None:
    jobs(range(30))
    notify(Job(number=98), delay=timedelta(hours=1))
    notify(Job(number=99))
    Notification.objects.filter(payload__number=99).update(available_at=None)
    notify(Job(number=100, mood="bad"))
    notify(Job(number=101, mood="close"))
    result = run("--drain", "--processes", processes)
    assert result.returncode == 0, result.stderr
    assert sorted(numbers("do_job")) == list(range(30))
    left = Notification.objects.order_by("payload__number").values_list(
        "payload__number", "attempts"
    )
    assert list(left) == [(98, 0), (99, 0), (100, 1), (101, 1)]


def test_the_loss_of_one_connection_is_survived(listen: Start) -> None:
    """P9: in the peer the worker is gone for good. First LISTEN's, then that of the work."""
    worker = listen("--channels", "app.Job", "app.Shout").ready()
    sql("SELECT pg_terminate_backend(%s)", *backends("pgpubsub_sql listen"))
    eventually(lambda: worker.log.count("Listening to") == 2)
    assert "The LISTEN connection is lost" in worker.log
    notify(Job(number=1))
    notify(Shout(number=2))
    eventually(lambda: numbers("do_job") == [1] and numbers("hear") == [2])
    (work,) = backends("")
    sql("SELECT pg_terminate_backend(%s)", work)
    eventually(lambda: backends("") == [])
    notify(Shout(number=3))
    notify(Job(number=4))
    eventually(lambda: numbers("do_job") == [1, 4] and numbers("hear") == [2, 3])
    assert "Traceback" not in worker.log


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterable[Server]:
    """A server to stop and start, with a database of the same name as the tests'."""
    name = connection.settings_dict["NAME"]
    with Server(settings={"fsync": "off"}) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        with abroad(server, "postgres") as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        run_django("migrate", "--skip-checks", "--verbosity", "0").check_returncode()
        yield server


@contextmanager
def abroad(server: Server, database: str) -> Iterator[Any]:
    """A connection to another server than the tests'."""
    options = {"host": server.host, "port": server.port, "user": server.user}
    raw = connection.Database.connect(dbname=database, **options)
    raw.autocommit = True
    try:
        yield raw.cursor()
    finally:
        raw.close()


def test_a_restart_of_the_server_is_survived(own_server: Server, listen: Start) -> None:
    """P9: reconnects with backoff, LISTENs, and drains; whether the server ends well or not."""
    worker = listen("--channels", "app.Job", "app.Shout").ready()
    for times, mode in enumerate(["fast", "immediate"], 1):
        own_server.restart(mode)
        with abroad(own_server, connection.settings_dict["NAME"]) as cursor:
            # Stored before it listens again, most likely; sent after.
            cursor.execute("SELECT pgpubsub_notify('app.Job', '{\"number\": 1}')")
            eventually(lambda: worker.log.count("Listening to") == times + 1)  # noqa: B023
            cursor.execute("SELECT pg_notify('app.Shout', '{\"number\": 2}')")

            def both_called() -> bool:
                cursor.execute("SELECT listener FROM app_entry")
                called = [listener for (listener,) in cursor.fetchall()]
                return called.count("do_job") == times and called.count("hear") == times  # noqa: B023

            eventually(both_called)
    assert "trying again in" in worker.log
    assert worker.stop() == 0


# What is asked of it.


def test_channels_can_be_chosen_and_left_out(listen: Start) -> None:
    """P27: by name in PostgreSQL, by module path, by base class."""
    chosen = listen("--channels", "app.Job", "tests.app.channels.Shout").ready()
    left = listen("--exclude", "pgpubsub_sql.TriggerChannel", "app.Job").ready()
    sent = listen("--channels", "pgpubsub_sql.Channel", "--exclude", "app.Shout").ready()
    assert "Listening to app.Job, app.Shout\n" in chosen.log
    assert "Listening to blog.PostReads, app.Step, app.Shout\n" in left.log
    assert "Listening to blog.PostReads, app.Job, app.Step\n" in sent.log
    notify(Job(number=1))
    notify(Shout(number=2))
    eventually(lambda: numbers("do_job") == [1] and numbers("hear") == [2, 2])


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
        (["--worker", "--processes", "2"], "--worker is one process"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=re.escape(words)):
        call_command("listen", *arguments, skip_checks=True)


def test_no_server_is_a_clear_error() -> None:
    # Skipped: a check of Django's asks the server about virtual columns of tests.rows.
    result = run("--skip-checks", PGHOST="/nowhere")
    assert result.returncode == 1
    assert "/nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_migrations_are_a_clear_error() -> None:
    result = run(PGDATABASE="template1")
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
    # What a spawned worker imports it finds by itself, through the command line's own path.
    listen("--database", "other", "--worker-start-method", "fork", *arguments).ready()
    notify(Shout(number=1))
    eventually(lambda: numbers("hear_only_number") == [1])


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command("listen", "--help")
    taught = capsys.readouterr().out
    assert "manage.py listen --channels blog.AuthorChannel   one channel\n" in taught
    assert "The first signal lets the\nmessage in hand finish; a second one aborts." in taught


def test_the_example_works(listen: Start) -> None:
    """As in the predecessor's documentation: a first post for every new author."""
    listen().ready()
    Author.objects.bulk_create([Author(name="Zoë"), Author(name="Åse")])
    eventually(lambda: not Notification.objects.exists())
    titles = [post.title for author in Author.objects.order_by("id") for post in author.posts.all()]
    assert titles == ["Welcome, Zoë!", "Welcome, Åse!"]
