"""``manage.py pgpubsub failed | parked | show``: messages, and what went wrong with them."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from pgpubsub_sql import Notification, notification_context, notify
from tests.app.channels import Job
from tests.app.models import Item
from tests.conftest import ROOT, Listen, eventually
from tests.test_stored import HOUR, NAME, park, run, store, told

TRACEBACK = "Traceback (most recent call last):\n  File …\nValueError: no such thing\n"


def retrying(number: int = 1, **values: Any) -> Notification:
    defaults = {"available_at": timezone.now() + HOUR, "attempts": 3, "last_error": TRACEBACK}
    return store(number, **defaults | values)


class TestFailed:
    def test_what_waits_for_its_next_attempt_is_shown(self, db: None) -> None:
        """F55: nothing showed it: error, attempt, next time."""
        row = retrying()
        store()
        store(available_at=timezone.now() + HOUR)
        head, _, line, *_ = run("failed").splitlines()
        assert head.split() == ["id", "channel", "sent", "attempts", "next", "error"]
        assert line.split()[:2] == [str(row.pk), NAME]
        assert "3 of 10" in line
        assert "in 60 min" in line
        assert line.endswith("ValueError: no such thing")

    def test_what_is_parked_is_shown_with_it(self, db: None) -> None:
        first, second = retrying(), park(last_error="ValueError: other")
        found = told("failed")
        assert found["total"] == 2
        assert [row["id"] for row in found["messages"]] == [first.pk, second.pk]
        assert [row["state"] for row in found["messages"]] == ["retrying", "parked"]
        assert found["messages"][0]["error"] == "ValueError: no such thing"
        assert found["messages"][0]["last_error"] == TRACEBACK
        assert found["messages"][0]["max_attempts"] == 10
        assert told("parked")["total"] == 1

    def test_a_real_failure(self, transactional_db: None, listen: Callable[..., Listen]) -> None:
        notify(Job(number=1, mood="bad"))
        listen("--channels", NAME).ready()
        eventually(lambda: told("failed", NAME)["total"])
        assert "RuntimeError: this listener" in run("failed", NAME)
        assert " 1 of 10 " in run("failed")

    def test_nothing(self, db: None) -> None:
        assert run("failed") == "No message has failed.\n"


class TestParked:
    def test_it_says_why(self, db: None) -> None:
        parked = park(3, last_error=TRACEBACK)
        store()
        (row,) = told("parked")["messages"]
        assert (row["id"], row["payload"]) == (parked.pk, {"number": 3})
        assert "ValueError: no such thing" in run("parked")
        assert "Traceback" not in run("parked")

    def test_nothing(self, db: None) -> None:
        """F55: "nothing is parked" is not all there is to say of what failed."""
        assert run("parked") == "Nothing is parked.\n"
        retrying()
        assert run("parked") == (
            "Nothing is parked. 1 message failed and waits for its next attempt: "
            "python manage.py pgpubsub failed\n"
        )

    def test_what_is_left_out_is_said(self, db: None) -> None:
        """F57: 50 of 200 were shown as if they were all."""
        rows = [park() for _ in range(3)]
        found = told("parked", "--limit", "2")
        assert [row["id"] for row in found["messages"]] == [rows[0].pk, rows[1].pk]
        assert found["total"] == 3
        assert "\n2 of 3 shown; --limit 3 shows all.\n" in run("parked", "--limit", "2")
        assert "shown" not in run("parked")

    @pytest.mark.parametrize("word", ["parked", "failed"])
    def test_no_line_is_too_long(self, db: None, word: str) -> None:
        """F57: lines of 711 characters."""
        park(last_error="ValueError: " + "x" * 600)
        park(channel="app." + "C" * 59, last_error="ValueError: \x1b[31m\n\x1b[2J" + "y" * 600)
        for line in run(word).splitlines():
            assert len(line) <= 80 or line.split()[0] == "error"
        assert "\x1b" not in run(word)


class TestShow:
    def test_all_is_told_of_a_message_that_failed(self, db: None) -> None:
        """F55: any message, whole."""
        row = retrying(payload={"number": 7, "$context": {"user": 5}}, key="acme")
        lines = [line.split(maxsplit=1) for line in run("show", str(row.pk)).splitlines()]
        told_of = {line[0]: line[1] for line in reversed(lines) if len(line) > 1}
        assert told_of["channel"] == NAME
        assert told_of["state"].startswith("failed; the next attempt is in 60 min (")
        assert told_of["attempts"] == "3 of 10"
        assert told_of["listeners"] == "tests.app.listeners.do_job"
        assert told_of["key"] == "acme"
        assert told_of["error"] == "ValueError: no such thing"
        output = run("show", str(row.pk))
        assert '"user": 5' in output
        assert '             "number": 7' in output
        assert "Traceback (most recent call last):" in output
        (found,) = told("show", str(row.pk))
        assert found["listeners"] == ["tests.app.listeners.do_job"]
        assert found["context"] == {"user": 5}
        assert found["payload"]["number"] == 7

    def test_in_every_state(self, db: None) -> None:
        words = {
            "parked: not tried again until somebody replays it": park(),
            "ready: the next free worker handles it": store(),
            "delayed until ": store(available_at=timezone.now() + HOUR),
        }
        for state, row in words.items():
            assert state in run("show", str(row.pk))
        output = run("show", *(str(row.pk) for row in words.values()))
        assert all(state in output for state in words)

    def test_the_listeners_are_those_that_want_the_event(self, db: None) -> None:
        with notification_context({"user": 5}):
            Item.objects.create(name="one")
        (found,) = told("show", str(Notification.objects.get().pk))
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
    def test_why_nobody_would_handle_it(
        self, db: None, channel: str, payload: Any, words: str
    ) -> None:
        row = store(channel=channel, payload=payload)
        assert words in run("show", str(row.pk))

    def test_what_is_not_there(self, db: None) -> None:
        with pytest.raises(CommandError, match="No message 0 is stored in the database 'default'"):
            run("show", "0")


@pytest.mark.django_db(transaction=True)
def test_a_table_is_as_wide_as_its_terminal() -> None:
    """F57: what is no terminal has 80 columns."""
    park(last_error="ValueError: " + "x" * 600)
    ours, theirs = pty.openpty()
    try:
        subprocess.run(["stty", "cols", "120"], stdin=theirs, check=True)
        subprocess.run(
            [sys.executable, "-m", "django", "pgpubsub", "parked"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "COLUMNS"}
            | {
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PGDATABASE": connection.settings_dict["NAME"],
            },
            stdout=theirs,
            check=True,
            timeout=60,
        )
        lines = os.read(ours, 10_000).decode().splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    assert max(map(len, lines)) == 120
    assert lines[2].endswith("…")
    output = io.StringIO()
    call_command("pgpubsub", "parked", stdout=output)
    assert max(map(len, output.getvalue().splitlines())) == 80


def test_json_is_whole(db: None) -> None:
    park(last_error="ValueError: " + "x" * 600)
    assert len(json.loads(run("parked", "--json"))["messages"][0]["error"]) == 612
