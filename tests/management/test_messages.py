"""``manage.py pgpubsub failed | parked | show``: stored messages, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError
from django.utils import timezone

from pgpubsub_sql import Notification, notification_context, notify
from tests.app.channels import Job
from tests.app.models import Item
from tests.conftest import Listen, eventually
from tests.management.support import run, run_json
from tests.stored import HOUR, NAME, TRACEBACK, in_flight, park, retrying, store


class TestFailed:
    def test_failed_shows_a_message_that_waits_for_its_next_attempt(self, db: None) -> None:
        """F55: with its error, its attempts and the time of the next one."""
        row = retrying()
        store()
        store(available_at=timezone.now() + HOUR)
        head, _, line, *_ = run("failed").splitlines()
        assert head.split() == ["id", "channel", "failed", "attempts", "next", "error"]
        assert line.split()[:2] == [str(row.pk), NAME]
        assert "3 of 10" in line
        assert "in 60 min" in line
        assert line.endswith("ValueError: no such thing")

    def test_failed_shows_parked_messages_too(self, db: None) -> None:
        first, second = retrying(), park(last_error="ValueError: other")
        found = run_json("failed")
        assert found["total"] == 2
        assert [row["id"] for row in found["messages"]] == [first.pk, second.pk]
        assert [row["state"] for row in found["messages"]] == ["retrying", "parked"]
        assert found["messages"][0]["error"] == "ValueError: no such thing"
        assert found["messages"][0]["last_error"] == TRACEBACK
        assert found["messages"][0]["reason"] == "ValueError"
        assert found["messages"][0]["failed_at"]
        assert found["messages"][0]["max_attempts"] == 10
        assert run_json("parked")["total"] == 1

    def test_failed_says_which_messages_are_in_flight(self, transactional_db: None) -> None:
        row = retrying()
        with in_flight(row.pk):
            assert [one["state"] for one in run_json("failed")["messages"]] == ["in_flight"]
            assert " in flight " in run("failed")

    def test_failed_shows_the_error_of_a_listener(
        self, transactional_db: None, listen: Callable[..., Listen]
    ) -> None:
        notify(Job(number=1, mood="bad"))
        listen("--channels", NAME).ready()
        eventually(lambda: run_json("failed", NAME)["total"])
        assert "RuntimeError: this listener" in run("failed", NAME)
        assert " 1 of 10 " in run("failed")

    def test_nothing(self, db: None) -> None:
        assert run("failed") == "No message has failed.\n"


class TestParked:
    def test_parked_shows_the_error(self, db: None) -> None:
        parked = park(3, last_error=TRACEBACK)
        store()
        (row,) = run_json("parked")["messages"]
        assert (row["id"], row["payload"]) == (parked.pk, {"number": 3})
        assert "ValueError: no such thing" in run("parked")
        assert "Traceback" not in run("parked")

    def test_nothing(self, db: None) -> None:
        """F55: "nothing is parked" does not mean that nothing has failed."""
        assert run("parked") == "Nothing is parked.\n"
        retrying()
        assert run("parked") == (
            "Nothing is parked. 1 message failed and waits for its next attempt: "
            "python manage.py pgpubsub failed\n"
        )

    def test_the_limit_is_printed_if_it_leaves_messages_out(self, db: None) -> None:
        """F57: 50 of 200 messages were shown as if there were no others."""
        rows = [park() for _ in range(3)]
        found = run_json("parked", "--limit", "2")
        assert [row["id"] for row in found["messages"]] == [rows[0].pk, rows[1].pk]
        assert found["total"] == 3
        assert "\n2 of 3 shown; --limit 3 shows all.\n" in run("parked", "--limit", "2")
        assert "shown" not in run("parked")

    @pytest.mark.parametrize("word", ["parked", "failed"])
    def test_no_line_is_wider_than_80_columns(self, db: None, word: str) -> None:
        """F57: lines had 711 characters."""
        park(last_error="ValueError: " + "x" * 600)
        park(channel="app." + "C" * 59, last_error="ValueError: \x1b[31m\n\x1b[2J" + "y" * 600)
        for line in run(word).splitlines():
            assert len(line) <= 80 or line.split()[0] == "error"
        assert "\x1b" not in run(word)


class TestShow:
    def test_show_prints_everything_about_a_failed_message(self, db: None) -> None:
        """F55."""
        row = retrying(payload={"number": 7, "$context": {"user": 5}}, key="acme")
        lines = [line.split(maxsplit=1) for line in run("show", str(row.pk)).splitlines()]
        shown = {line[0]: line[1] for line in reversed(lines) if len(line) > 1}
        assert shown["channel"] == NAME
        assert shown["state"].startswith("failed; the next attempt is in 60 min (")
        assert shown["attempts"] == "3 of 10"
        assert shown["listeners"] == "tests.app.listeners.do_job"
        assert shown["failed"].endswith(" ago)")
        assert shown["key"] == "acme"
        assert shown["error"] == "ValueError: no such thing"
        output = run("show", str(row.pk))
        assert '"user": 5' in output
        assert '             "number": 7' in output
        assert "Traceback (most recent call last):" in output
        (found,) = run_json("show", str(row.pk))
        assert found["listeners"] == ["tests.app.listeners.do_job"]
        assert found["context"] == {"user": 5}
        assert found["payload"]["number"] == 7

    def test_show_explains_every_state(self, db: None) -> None:
        words = {
            "parked: not tried again until somebody replays it": park(),
            "ready: the next free worker handles it": store(),
            "delayed until ": store(available_at=timezone.now() + HOUR),
        }
        for state, row in words.items():
            assert state in run("show", str(row.pk))
        output = run("show", *(str(row.pk) for row in words.values()))
        assert all(state in output for state in words)

    def test_show_lists_the_listeners_of_the_event(self, db: None) -> None:
        with notification_context({"user": 5}):
            Item.objects.create(name="one")
        (found,) = run_json("show", str(Notification.objects.get().pk))
        assert found["listeners"] == [
            "tests.app.listeners.item_inserted",
            "tests.app.listeners.item_saved",
        ]
        assert found["context"] == {"user": 5}

    @pytest.mark.parametrize(
        ("channel", "payload", "words"),
        [
            ("app.Gone", {}, "none: no channel of this name is declared"),
            (NAME, {"nummer": 1}, "none: the payload cannot be read. app.Job: "),
            ("app.ItemChannel", {"op": "TRUNCATE"}, "none for after_truncate"),
        ],
    )
    def test_show_says_why_no_listener_handles_a_message(
        self, db: None, channel: str, payload: Any, words: str
    ) -> None:
        row = store(channel=channel, payload=payload)
        assert words in run("show", str(row.pk))

    def test_show_of_a_message_that_is_not_stored_is_an_error(self, db: None) -> None:
        with pytest.raises(CommandError, match="No message 0 is stored in the database 'default'"):
            run("show", "0")


def test_json_is_not_truncated(db: None) -> None:
    park(last_error="ValueError: " + "x" * 600)
    assert len(json.loads(run("parked", "--json"))["messages"][0]["error"]) == 612
