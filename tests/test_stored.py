"""What is stored: seen and moved by ``manage.py pgpubsub``, and by ``Notification.objects``."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker.doorbell import Ring
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.registries import Ear

NAME = Job.postgres_name()
"""Of a channel that somebody listens to."""


def store(number: int = 1, *, channel: str = NAME, **values: Any) -> Notification:
    defaults = {"payload": {"number": number}, "available_at": timezone.now()}
    return Notification.objects.create(channel=channel, **defaults | values)


def park(number: int = 1, **values: Any) -> Notification:
    return store(number, available_at=None, attempts=10, **values)


def run(*argv: str) -> str:
    output = io.StringIO()
    call_command("pgpubsub", *argv, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def told(*argv: str) -> Any:
    return json.loads(run(*argv, "--json"))


def ids(*rows: Notification) -> set[int]:
    return {row.pk for row in rows}


class TestStates:
    def test_each_is_in_one(self, db: None) -> None:
        ready, parked = store(), park()
        waiting = store(available_at=timezone.now() + datetime.timedelta(hours=1))
        for state, row in {"ready": ready, "waiting": waiting, "parked": parked}.items():
            assert ids(*getattr(Notification.objects, state)()) == ids(row)

    def test_ready_is_by_the_statement_not_by_the_transaction(self, db: None) -> None:
        """In an old transaction now() would hide what has become ready since it began."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT now()")
            store()
            cursor.execute("UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp()")
        assert Notification.objects.ready().count() == 1


class TestBeforeMigration:
    """P15: what a notification was written under is known without a look-up a write."""

    def test_it_compares_with_when_it_was_applied(self, db: None) -> None:
        applied = MigrationRecorder(connection).applied_migrations()["app", "0001_initial"].applied
        before = store(created_at=applied - datetime.timedelta(seconds=1))
        store(created_at=applied + datetime.timedelta(seconds=1))
        assert ids(*Notification.objects.before_migration("app", "0001_initial")) == ids(before)

    def test_all_are_before_one_that_was_never_applied(self, db: None) -> None:
        MigrationRecorder(connection).record_unapplied("app", "0001_initial")
        row = store()
        assert ids(*Notification.objects.before_migration("app", "0001_initial")) == ids(row)

    def test_a_migration_that_there_is_not(self, db: None) -> None:
        with pytest.raises(LookupError, match="The app 'app' has no migration '0999_nothing'"):
            Notification.objects.before_migration("app", "0999_nothing")


class TestVerbs:
    def test_replay_gives_all_attempts_back_and_rings(self, transactional_db: None) -> None:
        parked, other = park(), park(channel="app.ItemChannel")
        with Ear(NAME) as ear:
            assert Notification.from_channel(Job).parked().replay() == 1
            assert ear.rings() == [Ring(NAME, "")]
        parked.refresh_from_db()
        other.refresh_from_db()
        assert (parked.attempts, other.attempts) == (0, 10)
        assert ids(*Notification.objects.ready()) == ids(parked)

    def test_replay_does_not_wait_for_what_waits(self, db: None) -> None:
        waiting = store(available_at=timezone.now() + datetime.timedelta(hours=1), attempts=3)
        assert Notification.objects.waiting().replay() == 1
        (row,) = Notification.objects.ready()
        assert (row.pk, row.attempts) == (waiting.pk, 0)

    def test_discard_forgets(self, db: None) -> None:
        kept, _ = store(), park()
        assert Notification.objects.parked().discard() == 1
        assert ids(*Notification.objects.all()) == ids(kept)

    def test_move_rings_where_they_are_now(self, transactional_db: None) -> None:
        old, here = store(channel="app.Renamed"), store()
        with Ear(NAME) as ear:
            assert Notification.objects.all().move(Job) == 1
            assert ear.rings() == [Ring(NAME, "")]
        assert ids(*Notification.from_channel(Job)) == ids(old, here)

    def test_what_a_worker_has_in_hand_is_left_alone(self, transactional_db: None) -> None:
        held, _ = park(), park()
        worker = connections.create_connection("default")
        worker.set_autocommit(False)
        with closing(worker), worker.cursor() as cursor:
            cursor.execute("DELETE FROM pgpubsub_sql_notification WHERE id = %s", [held.pk])
            assert Notification.objects.parked().discard() == 1
            worker.rollback()
        assert ids(*Notification.objects.all()) == ids(held)

    def test_many_are_changed_a_thousand_a_transaction(self, transactional_db: None) -> None:
        Notification.objects.bulk_create(
            Notification(channel=NAME, payload={}, available_at=None) for _ in range(2500)
        )
        done: list[int] = []
        assert Notification.objects.parked().replay(progress=done.append) == 2500
        assert done == [1000, 2000, 2500]
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(DISTINCT xmin::text) FROM pgpubsub_sql_notification")
            assert cursor.fetchone() == (3,)


class TestStatus:
    def test_it_counts_by_state(self, db: None) -> None:
        store(available_at=timezone.now() - datetime.timedelta(hours=1))
        store()
        park()
        store(available_at=timezone.now() + datetime.timedelta(hours=1))
        (row,) = told("status", NAME)["channels"]
        oldest = row.pop("oldest")
        assert row == {"channel": NAME, "ready": 2, "waiting": 1, "parked": 1, "heard": True}
        assert oldest >= 3600

    def test_rows_of_channels_nobody_listens_to_are_shown(self, db: None) -> None:
        store(channel="app.Gone")
        (row,) = [row for row in told("status")["channels"] if row["channel"] == "app.Gone"]
        assert (row["ready"], row["heard"]) == (1, False)
        assert "nobody listens" in run("status", "app.Gone")

    def test_workers_are_counted(
        self, transactional_db: None, listen: Callable[..., Listen]
    ) -> None:
        assert told("status")["workers"] == 0
        worker = listen("--processes", "2", "--channels", NAME).ready(2)
        assert told("status")["workers"] == 2
        worker.stop()
        eventually(lambda: told("status")["workers"] == 0)

    def test_the_notify_queue_is_watched(self, db: None) -> None:
        assert 0 <= told("status")["queue_usage"] < 1
        assert "the NOTIFY queue is 0.0% full" in run("status")


class TestParked:
    def test_it_says_why(self, db: None) -> None:
        parked = park(3, last_error="Traceback…\nValueError: no such thing\n")
        store()
        (row,) = told("parked")
        assert row["id"] == parked.pk
        assert row["last_error"] == parked.last_error
        assert row["payload"] == {"number": 3}
        assert "ValueError: no such thing" in run("parked")
        assert "Traceback" not in run("parked")

    def test_nothing(self, db: None) -> None:
        assert run("parked") == "Nothing is parked.\n"

    def test_no_more_than_wanted(self, db: None) -> None:
        rows = [park() for _ in range(3)]
        assert [row["id"] for row in told("parked", "--limit", "2")] == [rows[0].pk, rows[1].pk]


CHOICES: dict[str, Callable[[Notification], list[str]]] = {
    "channel": lambda row: [row.channel],
    "module path": lambda row: ["tests.app.channels.Job"],
    "id": lambda row: ["--id", str(row.pk)],
    "age": lambda row: ["--older-than", "2h"],
    "error": lambda row: ["--error", "TIME out"],
}


@pytest.mark.parametrize("word", ["replay", "discard"])
@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_what_is_parked_is_chosen(
    db: None, word: str, choice: Callable[[Notification], list[str]]
) -> None:
    long_ago = timezone.now() - datetime.timedelta(hours=3)
    chosen = park(created_at=long_ago, last_error="Time OUT")
    left = park(channel="app.ItemChannel", last_error="other")
    ready = store(last_error="time out", created_at=long_ago)
    done = f"{word}ed"
    assert [row["id"] for row in told("parked", *choice(chosen))] == [chosen.pk]
    assert told(word, *choice(chosen), "--dry-run") == {done: 1, "dry_run": True}
    assert ids(*Notification.objects.parked()) == ids(chosen, left)
    assert told(word, *choice(chosen)) == {done: 1, "dry_run": False}
    assert ids(*Notification.objects.parked()) == ids(left)
    assert ready.pk in ids(*Notification.objects.ready())


def test_an_age_that_is_none(db: None) -> None:
    with pytest.raises(CommandError, match="write it as 90s, 15m, 2h or 7d"):
        run("replay", "--older-than", "yesterday")


def test_what_is_replayed_is_handled(transactional_db: None, listen: Callable[..., Listen]) -> None:
    park(7)
    listen("--channels", NAME).ready()
    assert "\n1 worker listens; " in run("status", NAME)
    assert run("replay", NAME) == "1 notification was replayed.\n"
    eventually(lambda: not Notification.objects.exists())


def test_people_are_told_how_many(db: None) -> None:
    park(number=1)
    park(number=2)
    assert run("replay", "--dry-run") == "2 notifications would be replayed.\n"
    assert run("discard") == "2 notifications were discarded.\n"
    assert "\n0 workers listen; " in run("status")


def test_a_renamed_channel_keeps_its_messages(db: None) -> None:
    old = store(channel="app.OldName")
    assert told("move", "app.OldName", NAME, "--dry-run") == {"moved": 1, "dry_run": True}
    assert told("move", "app.OldName", NAME) == {"moved": 1, "dry_run": False}
    assert ids(*Notification.from_channel(Job)) == ids(old)


@pytest.mark.parametrize("choice", ["id", "age", "error"])
def test_what_is_moved_is_chosen(db: None, choice: str) -> None:
    """In whatever state it is."""
    long_ago = timezone.now() - datetime.timedelta(hours=3)
    chosen = store(channel="app.OldName", created_at=long_ago, last_error="Time OUT")
    park(channel="app.OldName", last_error="other")
    assert told("move", "app.OldName", NAME, *CHOICES[choice](chosen))["moved"] == 1
    assert ids(*Notification.from_channel(Job)) == ids(chosen)


def test_a_channel_to_move_to_is_suggested(db: None) -> None:
    with pytest.raises(CommandError, match=f"Did you mean '{NAME}'"):
        run("move", "app.OldName", f"{NAME}s")


def test_a_progress_bar_where_somebody_looks(db: None) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    park()
    terminal = Terminal()
    call_command("pgpubsub", "replay", stdout=io.StringIO(), stderr=terminal, no_color=True)
    assert f"[{'#' * 30}] 1/1" in terminal.getvalue()
