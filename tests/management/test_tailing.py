"""``manage.py pgpubsub tail``: sees what is sent, and takes nothing."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from pgpubsub_sql import notify
from pgpubsub_sql.management.output import WIDTH
from pgpubsub_sql.management.subcommands import tailing
from pgpubsub_sql.models import Notification
from tests.app.channels import Job, Shout
from tests.conftest import eventually
from tests.ledger import backends, sql
from tests.management.support import run, run_json
from tests.workers import asleep, poll

pytestmark = pytest.mark.django_db(transaction=True)
Watch = Callable[..., "Watching"]


class Watching:
    """A ``tail`` in a thread of its own, which ends after so many messages."""

    def __init__(self, limit: int, *arguments: str) -> None:
        self._output, self._errors = io.StringIO(), io.StringIO()
        self._arguments = (*arguments, "--limit", str(limit))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        eventually(lambda: "Watching" in self._errors.getvalue())

    def lines(self) -> list[str]:
        """Wait until it has ended; return what it has printed."""
        self._thread.join(30)
        assert not self._thread.is_alive(), self._output.getvalue()
        return self._output.getvalue().splitlines()

    def _run(self) -> None:
        try:
            output, errors = self._output, self._errors
            call_command("pgpubsub", "tail", *self._arguments, stdout=output, stderr=errors)
        finally:
            connections.close_all()


def test_it_shows_who_sends_what() -> None:
    watching = Watching(1, "app.Shout")
    sql("SET application_name = 'the web'")
    notify(Shout, number=1)
    notify(Job, number=1)
    (line,) = watching.lines()
    time, channel, sender, fields = line.split("  ", 3)
    assert len(time) == len("10:00:00.000")
    assert (channel, sender) == ("app.Shout", "the web")
    assert '"number": 1' in fields


def test_stored_messages_are_seen_and_left_to_listeners() -> None:
    notify(Job, number=1)  # nobody is told of what was sent before
    watching = Watching(2, "--json")
    notify(Job, number=2, mood="glad")
    notify(Job, number=3)
    sent = [json.loads(line) for line in watching.lines()]
    assert [one["payload"]["number"] for one in sent] == [2, 3]
    assert sent[0]["payload"] == {"number": 2, "mood": "glad"}
    assert sent[0]["sender"] == ""
    assert Notification.objects.count() == 3


def test_a_worker_takes_what_is_being_watched() -> None:
    with asleep(Job) as worker:
        watching = Watching(1, "app.Job")
        notify(Job, number=1)
        watching.lines()
        poll(worker, "app.Job")
    assert not Notification.objects.exists()


def test_it_counts_as_no_worker() -> None:
    watching = Watching(1)
    assert backends("pgpubsub_sql tail")
    assert run_json("status")["workers"] == 0
    notify(Job, number=1)
    watching.lines()


def test_a_message_that_was_stored_first_and_committed_last_is_seen() -> None:
    with connections["default"].copy().cursor() as slow:
        slow.execute("BEGIN")
        slow.execute("SELECT pgpubsub_notify('app.Job', '{\"number\": 1}')")
        watching = Watching(2, "--json")
        notify(Job, number=2)
        eventually(lambda: '"number": 2' in watching._output.getvalue())
        slow.execute("COMMIT")
        numbers = [json.loads(line)["payload"]["number"] for line in watching.lines()]
        slow.connection.close()
    assert numbers == [2, 1]


def test_long_payloads_are_whole_in_json_and_cut_in_a_line() -> None:
    watching, other = Watching(1, "--json", "app.Shout"), Watching(1, "app.Shout")
    notify(Shout, number=1, mood="x" * 9000)
    (line,), (short,) = watching.lines(), other.lines()
    assert json.loads(line)["payload"]["mood"] == "x" * 9000
    assert len(short) == WIDTH


def test_secrets_are_hidden() -> None:
    payload = {"user": 1, "password": "p", "more": [{"api_key": {"a": 1}, "token_type": "t"}]}
    assert tailing._readable(json.dumps(payload)) == {
        "user": 1,
        "password": "***",
        "more": [{"api_key": "***", "token_type": "***"}],
    }
    assert tailing._readable("no JSON") == "no JSON"


def test_ctrl_c_ends_it_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> Iterator[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(tailing, "_messages", interrupt)
    assert run("tail") == ""
    eventually(lambda: not backends("pgpubsub_sql tail"))  # the server takes a moment
