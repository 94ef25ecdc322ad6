"""``manage.py pgpubsub history``, and ``replay --handled``."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pgpubsub_sql import Notification
from pgpubsub_sql.worker.delivery import Delivery
from tests.delivery.sending import drain, jobs
from tests.kept import scatter
from tests.ledger import sql
from tests.management.support import run, run_json

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def week(delivery: Delivery) -> None:
    """Keep a message of each of seven days, the oldest first, and one that was discarded."""
    jobs(*["good"] * 6, "discard")
    drain(delivery)
    scatter()
    sql(
        "UPDATE pgpubsub_sql_history SET handled_at = clock_timestamp()"
        " - (7 - (payloads[1]->>'number')::integer) * interval '1 day'"
    )


def listed(*argv: str) -> list[int]:
    return [row["payload"]["number"] for row in run_json("history", *argv)["messages"]]


@pytest.mark.usefixtures("week")
@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([], [7, 6, 5, 4, 3, 2, 1]),
        (["app.Job"], [7, 6, 5, 4, 3, 2, 1]),
        (["tests.app.channels.Job", "--limit", "2"], [7, 6]),
        (["app.Step"], []),
        (["--subscription", "", "--since", "84h"], [7, 6, 5, 4]),
        (["--subscription", "mail", "--since", "84h"], []),
        (["--outcome", "discarded"], [7]),
        (["--outcome", "handled", "--since", "60h"], [6, 5]),
        (["--since", "84h", "--until", "36h"], [5, 4]),
        (["--since", "2000-01-01T00:00", "--until", "2000-01-02T00:00"], []),
    ],
)
def test_the_history_is_listed_by_each_filter(argv: list[str], found: list[int]) -> None:
    assert listed(*argv) == found


@pytest.mark.usefixtures("week")
def test_the_history_is_a_table_that_says_whether_there_is_more() -> None:
    output = run("history", "--limit", "1")
    assert re.search(r"app\.Job .* discarded +0 ", output)
    assert "The newest 1 are shown; --limit shows more." in output
    assert run_json("history", "--limit", "1")["more"]
    assert not run_json("history")["more"]


def test_an_empty_history_says_which_channels_keep_something(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.search("Nothing of that is kept. .*app.Step", run("history"))
    monkeypatch.setattr("pgpubsub_sql.management.subcommands.history.declared_channels", list)
    assert run("history") == "Nothing is kept: no channel sets keep.\n"


@pytest.mark.usefixtures("week")
def test_a_channel_that_is_no_longer_declared_is_found(delivery: Delivery) -> None:
    sql("UPDATE pgpubsub_sql_history SET channel = 'app.Gone' WHERE payloads[1]->'number' = '1'")
    assert listed("app.Gone") == [1]
    with pytest.raises(CommandError, match=r"No channel is called 'app.Gon'"):
        run("history", "app.Gon")


@pytest.mark.usefixtures("week")
def test_handled_messages_are_sent_again() -> None:
    """Those that were handled, not what was discarded."""
    argv = ("replay", "--handled", "app.Job", "--since", "84h", "--noinput")
    assert run_json(*argv, "--dry-run") == {"replayed": 3, "dry_run": True}
    assert not Notification.objects.exists()
    assert run(*argv) == "3 messages were sent again.\n"
    rows = Notification.objects.order_by("message")
    assert [row.payload["number"] for row in rows] == [4, 5, 6]
    assert run_json(*argv, "--until", "36h", "--subscription", "", "--rate", "1000") == {
        "replayed": 2,
        "dry_run": False,
    }


@pytest.mark.usefixtures("week")
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--handled"], "Name one channel"),
        (["--handled", "app.Job", "app.Step"], "Name one channel"),
        (["--handled", "app.Job", "--all"], "Name one channel"),
        (["--handled", "app.Job", "--older-than", "1d"], "--older-than selects messages that are"),
        (["--handled", "app.Job", "--id", "1"], "--id selects messages that are still stored"),
        (
            ["app.Job", "--since", "1d"],
            "--since is about messages that were handled: add --handled",
        ),
        (["--handled", "app.Job", "--since", "yesterday"], "neither a time, such as"),
        (["--handled", "app.Job", "--rate", "0"], "'0' is not an integer of at least 1"),
        (["--handled", "app.Jobs"], "No channel is called 'app.Jobs'. Did you mean 'app.Job'?"),
        (["--handled", "app.Job", "--subscription", "x"], "has no subscription 'x'"),
        (["--handled", "app.Job"], "The answer can only be given at a terminal"),
    ],
)
def test_what_cannot_be_meant_is_refused(argv: list[str], words: str) -> None:
    noinput = ["--noinput"] if len(argv) > 2 else []
    with pytest.raises(CommandError, match=re.escape(words)):
        run("replay", *argv, *noinput)
    assert not Notification.objects.exists()


@pytest.mark.usefixtures("week")
def test_an_interrupted_replay_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """F29: its words, run as they are, send the rest, and nothing twice."""
    monkeypatch.setattr("pgpubsub_sql.handled.PAGE", 2)

    def interrupt(seconds: float) -> None:
        if Notification.objects.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr("pgpubsub_sql.handled.time.sleep", interrupt)
    errors = io.StringIO()
    argv: list[Any] = ["pgpubsub", "replay", "--handled", "app.Job", "--since", "132h", "--rate"]
    with pytest.raises(KeyboardInterrupt):
        call_command(*argv, "2", "--noinput", stdout=io.StringIO(), stderr=errors)
    said = errors.getvalue()
    assert "Interrupted after 2 messages. To go on, run: python manage.py pgpubsub " in said
    monkeypatch.undo()
    words = said.split("manage.py pgpubsub ")[1].split()
    assert run(*words, "--noinput") == "3 messages were sent again.\n"
    rows = Notification.objects.order_by("message")
    assert [row.payload["number"] for row in rows] == [2, 3, 4, 5, 6]


def test_who_may_not_keep_what_is_discarded_is_told_so(delivery: Delivery) -> None:
    jobs("good")
    Notification.objects.update(available_at=None)
    sql("CREATE ROLE discarding")
    sql("GRANT ALL ON pgpubsub_sql_notification, pgpubsub_sql_subscription TO discarding")
    try:
        sql("SET ROLE discarding")
        with pytest.raises(Exception, match=r"lacks .*INSERT on public\.pgpubsub_sql_history"):
            run("discard", "app.Job", "--noinput")
    finally:
        sql("RESET ROLE")
        sql("DROP OWNED BY discarding; DROP ROLE discarding")
    assert Notification.objects.count() == 1


@pytest.mark.usefixtures("week")
def test_who_may_not_read_the_history_is_told_so() -> None:
    """A view has privileges of its own."""
    sql("CREATE ROLE reading")
    sql("GRANT SELECT ON pgpubsub_sql_history TO reading")
    try:
        sql("SET ROLE reading")
        with pytest.raises(Exception, match=r"lacks .*SELECT on public\.pgpubsub_sql_handled"):
            run("history")
    finally:
        sql("RESET ROLE")
        sql("DROP OWNED BY reading; DROP ROLE reading")
