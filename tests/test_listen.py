"""``manage.py listen``, as a process of its own, against the real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest
from django.db import connection, transaction
from django.utils import timezone

from example.blog.models import Author
from pgpubsub_sql import Notification, notification_context, notify
from pgpubsub_sql.embedded import Server
from tests.app.channels import ItemChannel, Job, Place, Shout
from tests.app.models import Entry, Item
from tests.conftest import ROOT, Listen, eventually

Start = Callable[..., Listen]


def entries(listener: str) -> list[dict[str, object]]:
    return list(
        Entry.objects.filter(listener=listener).order_by("id").values_list("data", flat=True)
    )


def numbers(listener: str = "do_job") -> list[object]:
    return sorted(entry["number"] for entry in entries(listener))


def execute(sql: str, *values: object) -> None:
    """Write as somebody who knows nothing of Django."""
    raw = psycopg2.connect(dbname=connection.settings_dict["NAME"])
    with raw, raw.cursor() as cursor:
        cursor.execute(sql, values or None)
    raw.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "django", "listen", *arguments],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PGDATABASE": connection.settings_dict["NAME"],
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def child_pids(worker: Listen) -> list[int]:
    return [int(pid) for pid in re.findall(r"started as process (\d+)", worker.log)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Gate:
    """An advisory lock that a listener in the mood ``wait`` must pass."""

    def __enter__(self) -> Gate:
        self.connection = psycopg2.connect(dbname=connection.settings_dict["NAME"])
        self.connection.autocommit = True
        self.connection.cursor().execute("SELECT pg_advisory_lock(77)")
        return self

    def await_somebody(self) -> None:
        def waiting() -> bool:
            cursor = self.connection.cursor()
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            )
            return bool(cursor.fetchone()[0])

        eventually(waiting)

    def open(self) -> None:
        self.connection.cursor().execute("SELECT pg_advisory_unlock_all()")

    def __exit__(self, *exception: object) -> None:
        self.connection.close()


# What arrives.


def test_rows_arrive_as_instances_and_each_listener_gets_its_events(listen: Start) -> None:
    """P4: in the peer only the first trigger exists, and callbacks run on the wrong events."""
    listen().ready()
    item = Item.objects.create(name="one", amount="1.10", data={"a": 1.5})
    with notification_context({"user": 7}):
        item.name = "two"
        item.save()
    item.delete()
    eventually(lambda: entries("item_deleted"))
    assert entries("item_inserted") == [{"name": "one", "amount": "1.10", "data": {"a": 1.5}}]
    assert entries("item_updated") == [{"old": "one", "new": "two", "context": {"user": 7}}]
    assert entries("item_deleted") == [{"name": "two"}]
    assert entries("item_saved") == [
        {"name": "one", "kwargs": ["old"]},
        {"name": "two", "kwargs": ["old"]},
    ]
    assert not Notification.objects.exists()


def test_fields_arrive_typed_nested_and_optional(listen: Start) -> None:
    listen().ready()
    notify(Shout(1, at=timezone.now(), places=[Place("here", (1.0, 2.0)), Place("there")]))
    eventually(lambda: entries("hear_only_number") == [{"number": 1, "extra": "a default"}])
    (heard,) = entries("hear")
    assert heard["types"] == {"number": "int", "mood": "str", "at": "datetime", "places": "list"}


def test_raw_sql_of_every_kind_arrives(listen: Start) -> None:
    listen().ready()
    execute("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
    execute("SELECT pgpubsub_notify('app.Job', '{\"number\": 2}')")
    execute("INSERT INTO app_item (name, number, amount, data) VALUES ('sql', 0, 0, '{}')")
    eventually(lambda: entries("hear") and entries("do_job") and entries("item_inserted"))
    assert (numbers("hear"), numbers()) == ([1], [2])


@pytest.mark.parametrize("processes", [1, 3])
def test_durable_is_handled_once_and_ephemeral_by_every_process(
    listen: Start, processes: int
) -> None:
    """P6 and P7: also equal messages, and whatever the number of workers."""
    listen("--processes", str(processes)).ready(processes)

    def send(first: int) -> None:
        raw = psycopg2.connect(dbname=connection.settings_dict["NAME"])
        raw.autocommit = True
        for number in range(first, first + 40):
            raw.cursor().execute(
                "SELECT pgpubsub_notify('app.Job', %s)", [f'{{"number": {number}}}']
            )
        raw.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(send, range(0, 160, 40)))
    with transaction.atomic():
        for _ in range(5):
            notify(Job, number=1000)
            notify(Shout, number=1000)
    eventually(lambda: len(numbers()) >= 165 and len(numbers("hear")) >= 5 * processes)
    eventually(lambda: not Notification.objects.exists())
    assert numbers() == [*range(160), *[1000] * 5]
    heard = Entry.objects.filter(listener="hear").values_list("pid", flat=True)
    assert sorted(map(list(heard).count, set(heard))) == [5] * processes


def test_what_was_stored_before_is_handled_by_who_starts_later(listen: Start) -> None:
    """P10: without --recover, and at once."""
    notify(Job, number=1)
    listen().ready()
    eventually(lambda: numbers() == [1])


def test_a_long_ephemeral_message_arrives_whole(listen: Start) -> None:
    """P13: beyond what a NOTIFY holds."""
    listen().ready()
    Item.objects.create(name="x" * 20_000)
    (news,) = eventually(lambda: entries("news"))
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
    eventually(lambda: numbers() == [0, 4] and numbers("hear") == [2])
    eventually(lambda: Notification.objects.count() == 3)
    for notification in Notification.objects.all():
        assert notification.attempts == 1
        assert "Traceback" in notification.last_error
        wait = notification.available_at - timezone.now()
        assert timedelta(seconds=20) < wait < timedelta(seconds=31)
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
    parked = eventually(lambda: Notification.objects.parked().first())
    assert "app.Job" in parked.last_error
    assert "number" in parked.last_error
    assert worker.log.count("A message on channel app.Shout was dropped") == 5
    assert "pgpubsub_notify" in worker.log


def test_a_listener_that_closes_djangos_connection_does_not_end_listening(listen: Start) -> None:
    """P12: LISTEN has a connection of its own."""
    listen().ready()
    notify(Job, number=1, mood="close")
    notify(Job, number=2)
    notify(Shout, number=3)
    eventually(lambda: 2 in numbers() and numbers("hear") == [3])


# How it ends.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("arguments", [("--worker",), ("--processes", "2")])
def test_a_signal_lets_the_message_in_hand_finish(
    listen: Start, number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    """P17: also under a supervisor, whose workers do not outlive it."""
    worker = listen(*arguments).ready(1 if arguments == ("--worker",) else 2)
    with Gate() as gate:
        with transaction.atomic():
            for one in range(3):
                notify(Job, number=one, mood="wait")
        gate.await_somebody()
        worker.process.send_signal(number)
        gate.open()
        assert worker.process.wait(30) == 0, worker.log
    done, left = numbers(), Notification.objects.count()
    assert done, "the message in hand was finished"
    assert len(done) + left == 3
    assert not any(map(is_running, child_pids(worker)))


def test_a_killed_worker_is_replaced_and_its_messages_handled_once(listen: Start) -> None:
    """P8: one successor, not several."""
    worker = listen().ready()
    with Gate() as gate:
        notify(Job, number=1, mood="wait")
        gate.await_somebody()
        os.kill(child_pids(worker)[0], signal.SIGKILL)
        eventually(lambda: worker.log.count("Listening to") == 2)
        gate.open()
        eventually(lambda: numbers() == [1])
    assert len(child_pids(worker)) == 2
    assert worker.stop() == 0


def test_workers_end_when_their_supervisor_is_killed(listen: Start) -> None:
    """P17: nobody is left behind."""
    worker = listen("--processes", "2").ready(2)
    worker.process.kill()
    eventually(lambda: not any(map(is_running, child_pids(worker))))


def test_drain_handles_what_is_ready_and_ends(transactional_db: None) -> None:
    for number in range(30):
        notify(Job, number=number)
    notify(Job(99), delay=timedelta(hours=1))
    result = run("--drain", "--processes", "2")
    assert result.returncode == 0, result.stderr
    assert numbers() == list(range(30))
    assert Notification.objects.waiting().count() == 1


def test_the_loss_of_the_server_is_survived(listen: Start) -> None:
    """P9: in the peer the worker is gone for good. Both of its connections are ended here."""
    worker = listen().ready()
    execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> %s",
        connection.connection.info.backend_pid if connection.connection else 0,
    )
    eventually(lambda: worker.log.count("Listening to") == 2)
    notify(Job, number=1)
    notify(Shout, number=2)
    eventually(lambda: numbers() == [1] and numbers("hear") == [2])


def test_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    """P9: reconnects with backoff, LISTENs, and drains. The example, on a server of its own."""
    log = tmp_path / "listen.log"
    with Server(settings={"fsync": "off"}) as server:
        settings = {"DJANGO_SETTINGS_MODULE": "example.settings"}
        environment = os.environ | server.environment() | settings
        manage = [sys.executable, "-m", "django"]
        subprocess.run([*manage, "migrate", "-v0"], env=environment, cwd=ROOT, check=True)
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [*manage, "listen"], env=environment, cwd=ROOT, stdout=output, stderr=output
            )
        try:
            eventually(lambda: "Listening to" in log.read_text())
            server.restart("immediate")
            eventually(lambda: log.read_text().count("Listening to") == 2)
            raw = psycopg2.connect(
                host=server.host, port=server.port, user=server.user, dbname=server.dbname
            )
            raw.autocommit = True
            cursor = raw.cursor()
            cursor.execute("INSERT INTO blog_author (name, bio) VALUES ('Zoë', '')")

            def welcomed() -> bool:
                cursor.execute("SELECT count(*) FROM blog_post")
                return bool(cursor.fetchone() == (1,))

            eventually(welcomed)
            raw.close()
        finally:
            worker.terminate()
            assert worker.wait(30) == 0, log.read_text()


# What is asked of it.


def test_channels_can_be_chosen_and_left_out(listen: Start) -> None:
    """P27: by name in PostgreSQL, by module path, by base class."""
    chosen = listen("--channels", "app.Job", "tests.app.channels.Shout").ready()
    assert "Listening to app.Job, app.Shout\n" in chosen.log
    left = listen("--exclude", "pgpubsub_sql.channels.TriggerChannel", "app.Job").ready()
    assert "Listening to blog.PostReads, app.Shout\n" in left.log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--channels", "app.Jobb"), "Did you mean 'app.Job'?"),
        (
            ("--exclude", "pgpubsub_sql.channels.Channel", "pgpubsub_sql.channels.TriggerChannel"),
            "nothing to listen to",
        ),
        (("--processes", "0"), "at least 1"),
        (("--database", "nowhere"), "nowhere"),
        (("--worker", "--processes", "2"), "--worker is one process"),
    ],
)
def test_what_cannot_be_done_is_said(
    transactional_db: None, arguments: tuple[str, ...], words: str
) -> None:
    result = run(*arguments)
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_no_server_is_a_clear_error(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "/nowhere")
    result = run()
    assert result.returncode == 1
    assert "/nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_migrations_are_a_clear_error(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "NAME", "template1")
    result = run()
    assert result.returncode == 1
    assert "manage.py migrate" in result.stderr


def test_the_example_works(listen: Start) -> None:
    """As in the predecessor's documentation: a first post for every new author."""
    listen().ready()
    Author.objects.bulk_create([Author(name="Zoë"), Author(name="Åse")])
    eventually(lambda: not Notification.objects.exists())
    titles = [post.title for author in Author.objects.order_by("id") for post in author.posts.all()]
    assert titles == ["Welcome, Zoë!", "Welcome, Åse!"]
    assert ItemChannel.lock_notifications
