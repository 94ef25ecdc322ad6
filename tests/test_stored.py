"""What is stored: seen and moved by ``manage.py pgpubsub``, and by ``Notification.objects``."""

from __future__ import annotations

import datetime
import io
import json
import os
import pty
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker.doorbell import Notify
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.registries import Ear

HOUR = datetime.timedelta(hours=1)

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
            assert ear.notifies() == [Notify(NAME, "")]
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
            assert ear.notifies() == [Notify(NAME, "")]
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
    assert [row["id"] for row in told("parked", *choice(chosen))["messages"]] == [chosen.pk]
    assert told(word, *choice(chosen), "--dry-run") == {done: 1, "dry_run": True}
    assert ids(*Notification.objects.parked()) == ids(chosen, left)
    assert told(word, *choice(chosen), "--noinput") == {done: 1, "dry_run": False}
    assert ids(*Notification.objects.parked()) == ids(left)
    assert ready.pk in ids(*Notification.objects.ready())


def test_an_age_that_is_none(db: None) -> None:
    with pytest.raises(CommandError, match="write it as 90s, 15m, 2h or 7d"):
        run("replay", "--older-than", "yesterday")


@pytest.mark.parametrize("word", ["replay", "discard"])
def test_an_id_finds_a_message_in_whatever_state(db: None, word: str) -> None:
    """F55: what waits for its next attempt was passed by."""
    retrying = store(available_at=timezone.now() + HOUR, attempts=3, last_error="ValueError: no")
    park()
    assert told(word, "--id", str(retrying.pk), "--noinput")[f"{word}ed"] == 1
    if word == "discard":
        assert not Notification.objects.filter(pk=retrying.pk)
    else:
        (row,) = Notification.objects.ready()
        assert (row.pk, row.attempts) == (retrying.pk, 0)


def test_what_failed_is_retried_now(db: None) -> None:
    """F55: with its attempts; neither what is parked nor what was only delayed."""
    later = timezone.now() + HOUR
    retrying = store(available_at=later, attempts=3, last_error="ValueError: no")
    store(available_at=later)
    park(last_error="ValueError: no")
    assert ids(*Notification.objects.retrying()) == ids(retrying)
    assert run("retry", NAME, "--dry-run") == "1 message would be retried.\n"
    assert run("retry", NAME) == "1 message was retried.\n"
    (row,) = Notification.objects.ready()
    assert (row.pk, row.attempts) == (retrying.pk, 3)
    assert told("retry", "--error", "valueerror") == {"retried": 0, "dry_run": False}


def test_what_is_replayed_is_handled(transactional_db: None, listen: Callable[..., Listen]) -> None:
    park(7)
    listen("--channels", NAME).ready()
    assert run("replay", NAME) == "1 message was replayed.\n"
    eventually(lambda: not Notification.objects.exists())


def test_people_are_told_how_many(db: None) -> None:
    park(number=1)
    park(number=2)
    assert run("replay", "--all", "--dry-run") == "2 messages would be replayed.\n"
    assert run("discard", "--all", "--noinput") == "2 messages were discarded.\n"


def test_people_are_told_what_was_left_alone(transactional_db: None) -> None:
    held = park()
    park()
    worker = connections.create_connection("default")
    worker.set_autocommit(False)
    with closing(worker), worker.cursor() as cursor:
        cursor.execute("DELETE FROM pgpubsub_sql_notification WHERE id = %s", [held.pk])
        told = run("discard", NAME, "--noinput")
        worker.rollback()
    assert told == "1 message was discarded.\n1 message left alone: taken by a worker meanwhile.\n"


def test_a_renamed_channel_keeps_its_messages(db: None) -> None:
    old = store(channel="app.OldName")
    assert told("move", "app.OldName", NAME, "--dry-run") == {"moved": 1, "dry_run": True}
    assert told("move", "app.OldName", NAME, "--noinput") == {"moved": 1, "dry_run": False}
    assert ids(*Notification.from_channel(Job)) == ids(old)


@pytest.mark.parametrize("choice", ["id", "age", "error"])
def test_what_is_moved_is_chosen(db: None, choice: str) -> None:
    """In whatever state it is."""
    long_ago = timezone.now() - datetime.timedelta(hours=3)
    chosen = store(channel="app.OldName", created_at=long_ago, last_error="Time OUT")
    park(channel="app.OldName", last_error="other")
    assert told("move", "app.OldName", NAME, *CHOICES[choice](chosen), "--noinput")["moved"] == 1
    assert ids(*Notification.from_channel(Job)) == ids(chosen)


def test_a_channel_to_move_to_is_suggested(db: None) -> None:
    with pytest.raises(CommandError, match=f"Did you mean '{NAME}'"):
        run("move", "app.OldName", f"{NAME}s")


def test_a_progress_bar_where_somebody_looks(db: None) -> None:
    """F57: it was bold and red."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    park()
    terminal = Terminal()
    call_command("pgpubsub", "replay", NAME, stdout=io.StringIO(), stderr=terminal)
    assert terminal.getvalue() == f"\r[{'#' * 30}] 1/1\n"


@pytest.mark.parametrize("word", ["replay", "retry", "discard"])
def test_nothing_is_done_to_everything_unless_that_is_said(db: None, word: str) -> None:
    """F56: to leave out the channel meant every channel."""
    park()
    with pytest.raises(CommandError, match=r"is selected\. Name channels, or select by --id"):
        run(word)
    with pytest.raises(CommandError, match="--all selects everything: leave out either"):
        run(word, NAME, "--all")
    assert Notification.objects.parked().count() == 1


QUESTIONS = {
    "discard": (["discard", NAME], "Delete 2 messages for good?"),
    "discard by id": (["discard", "--id", "ID"], "Delete 1 message for good?"),
    "replay all": (["replay", "--all"], "Handle 2 messages again?"),
    "move": (["move", NAME, "app.Step"], "Move 2 messages from app.Job to app.Step?"),
}


@pytest.fixture(params=QUESTIONS)
def asking(request: pytest.FixtureRequest, db: None) -> tuple[list[str], str]:
    """A command that asks, and its question."""
    argv, question = QUESTIONS[request.param]
    rows = [park(), park()]
    return [str(rows[0].pk) if one == "ID" else one for one in argv], question


def everything() -> list[Any]:
    return list(Notification.objects.values_list("pk", "channel", "available_at"))


def test_who_is_asked_may_say_no(
    asking: tuple[list[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F56: ``discard`` asked nothing."""
    argv, question = asking
    before = everything()
    ours, theirs = pty.openpty()
    with open(ours, "w") as keyboard, open(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        print("n", file=keyboard, flush=True)
        error = io.StringIO()
        with pytest.raises(CommandError, match=r"Nothing was changed\."):
            call_command("pgpubsub", *argv, stderr=error)
        assert error.getvalue() == f"{question} [y/N] "
        assert everything() == before
        print("y", file=keyboard, flush=True)
        run(*argv)
        assert everything() != before


def test_nobody_is_waited_for(
    asking: tuple[list[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F56: standard input is a pipe that never ends."""
    argv, question = asking
    before = everything()
    reading, writing = os.pipe()
    with open(reading) as pipe, open(writing, "w"):
        monkeypatch.setattr(sys, "stdin", pipe)
        with pytest.raises(CommandError) as refused:
            run(*argv)
        assert str(refused.value).startswith(question)
        assert "add --noinput" in str(refused.value)
        assert everything() == before
        run(*argv, "--noinput")
        assert everything() != before
