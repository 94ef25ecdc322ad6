"""``manage.py pgpubsub replay | retry | discard | move``: stored messages are changed."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from pgpubsub_sql.models import Notification
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.management.support import run, run_json
from tests.stored import HOUR, NAME, ids, in_flight, park, retrying, store

FILTERS: dict[str, Callable[[Notification], list[str]]] = {
    "channel": lambda row: [row.channel],
    "module path": lambda row: ["tests.app.channels.Job"],
    "id": lambda row: ["--id", str(row.pk)],
    "age": lambda row: ["--older-than", "2h"],
    "error": lambda row: ["--error", "TIME out"],
}


@pytest.mark.parametrize("word", ["replay", "discard"])
@pytest.mark.parametrize("choice", FILTERS.values(), ids=FILTERS)
def test_parked_messages_are_selected_by_each_filter(
    db: None, word: str, choice: Callable[[Notification], list[str]]
) -> None:
    long_ago = timezone.now() - datetime.timedelta(hours=3)
    chosen = park(created_at=long_ago, last_error="Time OUT")
    left = park(channel="app.ItemChannel", last_error="other")
    ready = store(last_error="time out", created_at=long_ago)
    done = f"{word}ed"
    assert [row["id"] for row in run_json("parked", *choice(chosen))["messages"]] == [chosen.pk]
    assert run_json(word, *choice(chosen), "--dry-run") == {done: 1, "dry_run": True}
    assert ids(*Notification.objects.parked()) == ids(chosen, left)
    assert run_json(word, *choice(chosen), "--noinput") == {done: 1, "dry_run": False}
    assert ids(*Notification.objects.parked()) == ids(left)
    assert ready.pk in ids(*Notification.objects.ready())


def test_an_invalid_age_is_refused(db: None) -> None:
    with pytest.raises(CommandError, match="write it as 90s, 15m, 2h or 7d"):
        run("replay", "--older-than", "yesterday")


@pytest.mark.parametrize("word", ["replay", "discard"])
def test_an_id_selects_a_message_in_any_state(db: None, word: str) -> None:
    """F55: one that waits for its next attempt was ignored."""
    failed = retrying()
    park()
    assert run_json(word, "--id", str(failed.pk), "--noinput")[f"{word}ed"] == 1
    if word == "discard":
        assert not Notification.objects.filter(pk=failed.pk)
    else:
        (row,) = Notification.objects.ready()
        assert (row.pk, row.attempts) == (failed.pk, 0)


def test_retry_makes_failed_messages_ready_and_keeps_their_attempts(db: None) -> None:
    """F55: neither those that are parked nor those that are only delayed."""
    later = timezone.now() + HOUR
    failed = retrying(available_at=later)
    store(available_at=later)
    park(last_error="ValueError: no")
    assert ids(*Notification.objects.retrying()) == ids(failed)
    assert run("retry", NAME, "--dry-run") == "1 message would be retried.\n"
    assert run("retry", NAME) == "1 message was retried.\n"
    (row,) = Notification.objects.ready()
    assert (row.pk, row.attempts) == (failed.pk, 3)
    assert run_json("retry", "--error", "valueerror") == {"retried": 0, "dry_run": False}


def test_a_replayed_message_is_handled(
    transactional_db: None, listen: Callable[..., Listen]
) -> None:
    park(7)
    listen("--channels", NAME).ready()
    assert run("replay", NAME) == "1 message was replayed.\n"
    eventually(lambda: not Notification.objects.exists())


def test_the_number_of_changed_messages_is_printed(db: None) -> None:
    park(number=1)
    park(number=2)
    assert run("replay", "--all", "--dry-run") == "2 messages would be replayed.\n"
    assert run("discard", "--all", "--noinput") == "2 messages were discarded.\n"


def test_the_number_of_messages_left_alone_is_printed(transactional_db: None) -> None:
    held, free = park(), park()
    with in_flight(held.pk):
        output = run("discard", "--id", str(held.pk), str(free.pk), "--noinput")
    assert (
        output
        == "1 message was discarded.\n1 message skipped: taken by a worker in the meantime.\n"
    )


def test_move_takes_messages_to_the_renamed_channel(db: None) -> None:
    old = store(channel="app.OldName")
    assert run_json("move", "app.OldName", NAME, "--dry-run") == {"moved": 1, "dry_run": True}
    assert run_json("move", "app.OldName", NAME, "--noinput") == {"moved": 1, "dry_run": False}
    assert ids(*Notification.from_channel(Job)) == ids(old)


@pytest.mark.parametrize("choice", ["id", "age", "error"])
def test_messages_to_move_are_selected_by_each_filter(db: None, choice: str) -> None:
    """In any state."""
    long_ago = timezone.now() - datetime.timedelta(hours=3)
    chosen = store(channel="app.OldName", created_at=long_ago, last_error="Time OUT")
    park(channel="app.OldName", last_error="other")
    assert (
        run_json("move", "app.OldName", NAME, *FILTERS[choice](chosen), "--noinput")["moved"] == 1
    )
    assert ids(*Notification.from_channel(Job)) == ids(chosen)


def test_move_suggests_a_channel_of_a_similar_name(db: None) -> None:
    with pytest.raises(CommandError, match=f"Did you mean '{NAME}'"):
        run("move", "app.OldName", f"{NAME}s")


def test_a_terminal_shows_a_progress_bar(db: None) -> None:
    """F57: it is not bold and red, as errors are."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    park()
    terminal = Terminal()
    call_command("pgpubsub", "replay", NAME, stdout=io.StringIO(), stderr=terminal)
    assert terminal.getvalue() == f"\r[{'#' * 30}] 1/1\n"
